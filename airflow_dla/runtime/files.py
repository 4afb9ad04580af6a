"""Folders of attempts, and what lies there: JSON files, read and written whole; lines of JSON; logs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from airflow_dla.errors import InvalidSpec

_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.\d+")


def checked_label(attempt: str, names: str) -> str:
    """Return an attempt's label; `InvalidSpec`, which says what it names here, if it is none and might name something else."""
    if not _LABEL.fullmatch(attempt):
        raise InvalidSpec(f"an attempt's label is JOB.NUMBER of letters, digits, _ and -, got {attempt!r}; it names {names}")
    return attempt


def folder_of(attempt: str, root: Path) -> Path:
    """Return the folder of an attempt below a folder."""
    return root / checked_label(attempt, f"a folder below {root}")


def attempts_in(root: Path) -> list[Path]:
    """Return the folders of attempts below a folder, which need not be there."""
    return [path for path in root.iterdir() if _LABEL.fullmatch(path.name)] if root.is_dir() else []


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what a file holds; None when there is none."""
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None


def write_whole(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file that is there whole or not at all."""
    partial = _partial(path, value)
    partial.replace(path)


def write_once(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file whole unless it is there already."""
    partial = _partial(path, value)
    with contextlib.suppress(FileExistsError):
        os.link(partial, path)
    partial.unlink()


def json_lines(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    r"""Yield the objects among lines that a job could have written itself: what is none is passed over.

    Examples
    --------
    >>> list(json_lines([b'{"a": 1}\n', b"epoch 1\n", b"[]"]))
    [{'a': 1}]
    """
    for line in lines:
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found


def read_piece(path: Path, offset: int, limit: int) -> bytes:
    """Return the bytes of a file from an offset, at most `limit`; none where there is no file."""
    try:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), limit, offset)
    except FileNotFoundError:
        return b""


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of some bytes, though a pipe or a terminal takes fewer at a time."""
    while data:
        data = data[os.write(descriptor, data) :]


def _partial(path: Path, value: Mapping[str, Any]) -> Path:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    # No fsync: after a power cut no process of an attempt is left, and it is lost in any case.
    partial.write_text(json.dumps(value), encoding="utf-8")
    return partial
