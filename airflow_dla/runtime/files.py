"""The JSON files in an attempt's folder: read, and written whole."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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


def _partial(path: Path, value: Mapping[str, Any]) -> Path:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    # No fsync: after a power cut no process of an attempt is left, and it is lost in any case.
    partial.write_text(json.dumps(value), encoding="utf-8")
    return partial
