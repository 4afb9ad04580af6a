"""A container's log as a node keeps it, and as the log API shows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

#: Where a runtime cuts a line that does not end, bytes.
PIECE = 16 * 1024


class Output:
    """What a container wrote: pieces with their time, as in a file of the container runtime interface.

    A line longer than 16 KiB is several pieces, of which the API shows the time of the first
    alone. When the file has become too large it is rotated, and the API shows the new one.
    """

    def __init__(self) -> None:
        self.ended = False
        self._pieces: list[tuple[int, bytes]] = []
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
            self._pieces.append((at_ns, data))
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
            self._pieces = []

    def raw(self) -> bytes:
        """Return all of it that is shown, without times."""
        return b"".join(data for _, data in self._pieces)

    def read(self, *, since: str = "", tail: int | None = None, limit: int | None = None, timestamps: bool = False) -> bytes:
        """Return what the API shows."""
        with self._changed:
            shown = self._shown(self._pieces, _whole_second(since), timestamps=timestamps)
            if tail is not None:
                lines = b"".join(shown).splitlines(keepends=True)
                shown = iter(lines[len(lines) - min(tail, len(lines)) :])
            return b"".join(shown)[:limit]

    def follow(self, *, since: str = "", timestamps: bool = False) -> Iterator[bytes]:
        """Yield what the API shows as it comes, nothing now and then."""
        at, begins = 0, True
        after = _whole_second(since)
        pieces = self._pieces
        while True:
            with self._changed:
                if pieces is not self._pieces:  # rotated: what was left of the old file was read
                    pieces, at = self._pieces, 0
                fresh, done = pieces[at:], self.ended
                if not fresh and not done:
                    self._changed.wait(0.2)
            at += len(fresh)
            chosen = [piece for piece in fresh if piece[0] >= after]
            yield b"".join(self._shown(chosen, after, timestamps=timestamps, begins=begins))
            if chosen:
                begins = chosen[-1][1].endswith(b"\n")
            if done and not fresh:
                return

    @staticmethod
    def _shown(pieces: list[tuple[int, bytes]], after: int, *, timestamps: bool, begins: bool = True) -> Iterator[bytes]:
        for at, data in pieces:
            if at < after:
                continue
            yield _stamp(at) + b" " + data if timestamps and begins else data
            begins = data.endswith(b"\n")

    def _cut(self, line: bytes, at_ns: int | None) -> None:
        for at in range(0, len(line), PIECE):
            self._last = max(time.time_ns(), self._last + 1) if at_ns is None else at_ns
            self._pieces.append((self._last, line[at : at + PIECE]))


def _stamp(at_ns: int) -> bytes:
    whole = datetime.fromtimestamp(at_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{at_ns % 10**9:09d}Z".encode()


def _whole_second(since: str) -> int:
    """Return nanoseconds of a time, of which the node is told the second alone."""
    return int(datetime.fromisoformat(since).timestamp()) * 10**9 if since else 0
