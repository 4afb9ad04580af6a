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


class Measuring:
    """Measures bytes as they pass.

    Examples
    --------
    >>> passing = Measuring()
    >>> passing.add(b"abc")
    >>> passing.measured.size
    3
    """

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Measure the next bytes."""
        self._hasher.update(piece)
        self._size += len(piece)

    @property
    def measured(self) -> Measured:
        """What has passed."""
        return Measured(self._size, self._hasher.hexdigest())


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
    passing = Measuring()
    while chunk := source.read(CHUNK):
        passing.add(chunk)
        if target is not None:
            target.write(chunk)
    return passing.measured
