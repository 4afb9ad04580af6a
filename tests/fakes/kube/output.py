"""A container's log as a node keeps it, and as the log API shows it."""

from __future__ import annotations

import functools
import threading
import time
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime

#: Where a runtime cuts a line that does not end, bytes.
PIECE = 16 * 1024
#: Pieces that are shown at a time.
_PART = 4096


class Output:
    """What a container wrote: pieces with their time, as in a file of the container runtime interface.

    A line longer than 16 KiB is several pieces, of which the API shows the time of the first
    alone. When the file has become too large it is rotated, and the API shows the new one.
    """

    def __init__(self) -> None:
        self.ended = False
        self._file = _File()
        self._open = b""
        self._last = 0
        self._changed = threading.Condition()

    def write(self, data: bytes, at_ns: int | None = None) -> None:
        """Write some bytes, now or at a time in nanoseconds; what is no whole line yet is shown when it is."""
        with self._changed:
            *lines, self._open = (self._open + data).split(b"\n")
            for line in lines:
                self._cut(line + b"\n", at_ns)
            if len(self._open) >= PIECE:
                whole = len(self._open) // PIECE * PIECE
                self._cut(self._open[:whole], at_ns)
                self._open = self._open[whole:]
            self._changed.notify_all()

    def add(self, data: bytes, at_ns: int) -> None:
        """Add a piece as another runtime cut it."""
        with self._changed:
            self._file.add(at_ns, data)
            self._changed.notify_all()

    def end(self) -> None:
        """Show what is left: nothing more will come."""
        with self._changed:
            if self._open:
                self._cut(self._open, None)
                self._open = b""
            self.ended = True
            self._changed.notify_all()

    def rotate(self) -> None:
        """Begin a new file: what was written before is shown no more."""
        with self._changed:
            self._file = _File()

    def raw(self) -> bytes:
        """Return all of it that is shown, without times."""
        return bytes(self._file.data)

    def read(self, *, since: str = "", tail: int | None = None, limit: int | None = None, timestamps: bool = False) -> bytes:
        """Return what the API shows."""
        shown = b"".join(self.pieces(since=since, timestamps=timestamps))
        if tail is not None:
            lines = shown.splitlines(keepends=True)
            shown = b"".join(lines[len(lines) - min(tail, len(lines)) :])
        return shown[:limit]

    def pieces(self, *, since: str = "", timestamps: bool = False) -> Iterator[bytes]:
        """Yield what the API shows now, a part at a time."""
        file, after = self._file, _whole_second(since)
        count, begins = len(file.times), True
        for at in range(0, count, _PART):
            part, begins = file.shown(at, min(at + _PART, count), after, timestamps=timestamps, begins=begins)
            yield part

    def follow(self, *, since: str = "", timestamps: bool = False) -> Iterator[bytes]:
        """Yield what the API shows as it comes, nothing now and then."""
        at, begins = 0, True
        file, after = self._file, _whole_second(since)
        while True:
            with self._changed:
                if file is not self._file and at == len(file.times):  # rotated, and the rest of the old file was read
                    file, at = self._file, 0
                count, done = min(len(file.times), at + _PART), self.ended
                if at == count and not done:
                    self._changed.wait(0.2)
            part, begins = file.shown(at, count, after, timestamps=timestamps, begins=begins)
            yield part
            if done and at == count and file is self._file:
                return
            at = count

    def _cut(self, line: bytes, at_ns: int | None) -> None:
        for at in range(0, len(line), PIECE):
            self._last = max(time.time_ns(), self._last + 1) if at_ns is None else at_ns
            self._file.add(self._last, line[at : at + PIECE])


class _File:
    """The pieces of one file, packed: there may be millions."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.times = array("q")
        self._ends = array("q")

    def add(self, at_ns: int, piece: bytes) -> None:
        self.data += piece
        self._ends.append(len(self.data))
        self.times.append(at_ns)

    def shown(self, first: int, end: int, after: int, *, timestamps: bool, begins: bool) -> tuple[bytes, bool]:
        """Return some pieces as the API shows them, and whether a line begins after them."""
        out = bytearray()
        for at in range(first, end):
            moment = self.times[at]
            if moment < after:
                continue
            piece = self.data[self._ends[at - 1] if at else 0 : self._ends[at]]
            if timestamps and begins:
                out += _stamp(moment) + b" "
            out += piece
            begins = piece.endswith(b"\n")
        return bytes(out), begins


def _stamp(at_ns: int) -> bytes:
    return b"%s.%09dZ" % (_second(at_ns // 10**9), at_ns % 10**9)


@functools.lru_cache(maxsize=64)
def _second(at: int) -> bytes:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def _whole_second(since: str) -> int:
    """Return nanoseconds of a time, of which the node is told the second alone."""
    return int(datetime.fromisoformat(since).timestamp()) * 10**9 if since else 0
