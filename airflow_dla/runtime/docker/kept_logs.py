"""Logs of containers that are gone: a file of bytes, and beside it one that tells where in them standard error is."""

from __future__ import annotations

import bisect
import contextlib
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from airflow_dla.runtime.contract import LogSlice
from airflow_dla.runtime.docker.frames import Frames, error_ranges
from airflow_dla.runtime.files import read_piece

#: Begin and end in bytes from the log's beginning. All are of one size, so that one is found without reading those before.
_RANGE: Final = struct.Struct(">QQ")


def write(path: Path, pieces: Iterable[Frames]) -> None:
    """Keep a log, whole or not at all.

    Parameters
    ----------
    path : Path
        The file of bytes; it is there last.
    pieces : iterable of list of (int, bytes)
        What the streams got, in order.
    """
    ranges, partial, offset = errors_of(path), path.with_name(f".{path.name}"), 0
    with partial.open("wb") as log, ranges.open("wb") as told:
        for frames in pieces:
            log.writelines(piece for _, piece in frames)
            told.writelines(_RANGE.pack(offset + begin, offset + end) for begin, end in error_ranges(frames))
            offset += sum(len(piece) for _, piece in frames)
    partial.replace(path)


def read(path: Path, offset: int, limit: int) -> LogSlice:
    """Return a piece of a kept log from a byte offset; empty where there is none."""
    data = read_piece(path, offset, limit)
    return LogSlice(data, offset + len(data), _errors(errors_of(path), offset, len(data)) if data else None)


def remove(path: Path) -> None:
    """Remove a kept log, if there is one."""
    for file in (path, errors_of(path)):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()


def errors_of(path: Path) -> Path:
    """Return the file that tells where in a log standard error is."""
    return path.with_name(f"{path.name}.errors")


def _errors(path: Path, offset: int, size: int) -> tuple[tuple[int, int], ...] | None:
    """Return where in a piece of a log standard error is; None where nothing tells."""
    try:
        with path.open("rb", buffering=0) as file:
            inside = _overlapping(file.fileno(), offset, offset + size)
            return tuple((max(begin - offset, 0), min(end - offset, size)) for begin, end in inside)
    except FileNotFoundError:
        return None


def _overlapping(file: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    def at(number: int) -> tuple[int, int]:
        found: tuple[int, int] = _RANGE.unpack(os.pread(file, _RANGE.size, number * _RANGE.size))
        return found

    count = os.fstat(file).st_size // _RANGE.size
    for number in range(bisect.bisect_right(range(count), begin, key=lambda one: at(one)[1]), count):
        found = at(number)
        if found[0] >= end:
            return
        yield found
