"""The engine's framing around a container's output, taken apart however the network cut it.

References
----------
Docker Engine API v1.41, "Attach to a container", stream format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

#: What the streams of a container got, in order: which (1 stdout, 2 stderr), and its bytes.
Frames: TypeAlias = list[tuple[int, bytes]]

_STDERR: Final = 2
_HEADER: Final = struct.Struct(">BxxxL")


class Demultiplexer:
    """Takes an engine's frames apart: an eight byte header each, then what a stream got.

    Examples
    --------
    >>> frames = Demultiplexer()
    >>> frames.feed(bytes([1, 0, 0, 0, 0, 0, 0, 3]) + b"ab"), frames.within
    ([(1, b'ab')], True)
    >>> frames.feed(b"c" + bytes([2, 0, 0, 0, 0, 0, 0, 1]) + b"d")
    [(1, b'c'), (2, b'd')]
    """

    def __init__(self) -> None:
        self._header = b""
        self._stream = 0
        self._left = 0

    @property
    def within(self) -> bool:
        """Whether what came so far ends inside a frame."""
        return bool(self._left or self._header)

    def feed(self, data: bytes) -> Frames:
        """Return what the streams got, in order: pairs of a stream (1 stdout, 2 stderr, 3 the engine itself) and bytes.

        Raises
        ------
        ValueError
            If these are no frames, as of a container with a terminal.
        """
        runs: list[tuple[int, list[bytes]]] = []
        at = 0
        while at < len(data):
            if not self._left:
                at = self._next_header(data, at)
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if not runs or runs[-1][0] != self._stream:
                runs.append((self._stream, []))
            runs[-1][1].append(piece)
        return [(stream, b"".join(pieces)) for stream, pieces in runs]

    def _next_header(self, data: bytes, at: int) -> int:
        end = at + _HEADER.size - len(self._header)
        header = self._header + data[at:end]
        if len(header) < _HEADER.size:
            self._header = header
            return len(data)
        self._header = b""
        self._stream, self._left = _HEADER.unpack(header)
        if self._stream > 3 or header[1:4] != b"\0\0\0":  # noqa: PLR2004 - the engine's own words have the last number
            raise ValueError(f"a frame begins with its stream, 0 to 3, got {header!r}: has the container a terminal?")
        return end


def error_ranges(frames: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, int]]:
    """Yield where in what the streams got, put together, standard error begins and ends.

    Parameters
    ----------
    frames : iterable of (int, bytes)
        Streams and what they got, in order.

    Examples
    --------
    >>> list(error_ranges([(1, b"out"), (2, b"er"), (2, b"ror"), (1, b"out"), (2, b"!")]))
    [(3, 8), (11, 12)]
    """
    begin, at = None, 0
    for stream, data in frames:
        if stream != _STDERR and begin is not None:
            yield begin, at
        begin = None if stream != _STDERR else at if begin is None else begin
        at += len(data)
    if begin is not None:
        yield begin, at
