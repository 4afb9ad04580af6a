"""Where bytes are read and written: the one place that a codec, a cache or a replica has to know."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import BinaryIO, Final

#: Bytes moved at a time: large enough to keep the disk busy, small enough for any job's memory.
CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Measured:
    """What went through a stream.

    Parameters
    ----------
    size : int
        Bytes.
    sha256 : str
        64 hexadecimal digits.
    """

    size: int
    sha256: str


def measure(source: BinaryIO) -> Measured:
    """Read a stream to its end and return its size and hash.

    Examples
    --------
    >>> import io
    >>> measure(io.BytesIO(b"abc")).size
    3
    """
    return _pump(source, None)


def copy(source: BinaryIO, target: BinaryIO) -> Measured:
    """Copy a stream to its end; return size and hash of the bytes that were written."""
    return _pump(source, target)


def _pump(source: BinaryIO, target: BinaryIO | None) -> Measured:
    hasher, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        hasher.update(chunk)
        size += len(chunk)
        if target is not None:
            target.write(chunk)
    return Measured(size, hasher.hexdigest())
