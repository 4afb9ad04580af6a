"""Lines that begin with their time, read on from where a connection broke off.

The log API knows no byte offsets, only times, of which it looks at whole seconds. Asked
for the output since some time, it sends again some of what was read. What is
known of the last lines tells which: their times are exact, and each line that was read
is skipped as often as it was there. A line that was read in part is skipped so far.

A line longer than the runtime's 16 KiB comes in one piece here, and shows the time of
its beginning alone; one of the other stream that was written amid it has no time at all.
What was sent once is sent in the same order again, so that does not matter.
"""

from __future__ import annotations

import itertools
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

#: Lines whose times are known; two streams of a container are not more out of order than that.
_KNOWN: Final = 512
#: How a time begins; a line without one is a node's word instead of the container's.
_STAMP: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_LONGEST_STAMP: Final = 64
#: Times of lines that are asked for again: a look must not cost the whole log.
_BACK: Final = 8
_OVERLAP: Final = timedelta(seconds=1)


@dataclass(slots=True)
class Bookmark:
    """What was read of a container's output: its last lines.

    Parameters
    ----------
    lines : mapping of bytes to int
        How many lines of each time, in the order in which the times came.
    last : bytes
        The time of the last line; empty before the first.
    read : int
        Bytes of the last line that were read.
    """

    lines: OrderedDict[bytes, int] = field(default_factory=OrderedDict)
    last: bytes = b""
    read: int = 0

    @property
    def since(self) -> str:
        """Return the time to ask for output from: that of some lines ago; empty for all of it.

        From the middle of a line on the API shows the rest of it as a line of that moment. So
        far back it cannot be taken for the last line.
        """
        earlier = next(itertools.islice(reversed(self.lines), _BACK, None), None)
        if earlier is None:
            return ""
        whole, _ = _moment(earlier)
        return (whole - _OVERLAP).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def begin(self, stamp: bytes) -> None:
        """Take note of a line that begins."""
        self.lines[stamp] = self.lines.pop(stamp, 0) + 1
        self.last, self.read = stamp, 0
        while len(self.lines) > _KNOWN:
            self.lines.popitem(last=False)


class StampedLines:
    r"""Takes the times off what the API sends, and skips what a bookmark says was read.

    Parameters
    ----------
    bookmark : `Bookmark`
        Moves on with what is fed.

    Examples
    --------
    >>> bookmark = Bookmark()
    >>> lines = StampedLines(bookmark)
    >>> lines.feed(b"2026-01-01T00:00:00.5Z a\n2026-01-01T00:00:00.7Z bc")
    b'a\nbc'
    >>> again = StampedLines(bookmark)
    >>> again.feed(b"2026-01-01T00:00:00.5Z a\n2026-01-01T00:00:00.7Z bcd\n2026-01-01T00:00:01Z e\n")
    b'd\ne\n'
    """

    def __init__(self, bookmark: Bookmark) -> None:
        self._bookmark = bookmark
        self._skips = dict(bookmark.lines)
        self._passed = not bookmark.last
        self._head = b""
        self._within = False
        self._left: int | None = 0

    def feed(self, data: bytes) -> bytes:
        """Return what is new in some bytes, without times.

        Raises
        ------
        ValueError
            If a line begins with no time: it is the node's, and says what is wrong.
        """
        out = bytearray()
        at = 0
        while at < len(data):
            if not self._within:
                at = self._begin(data, at)
                continue
            newline = data.find(b"\n", at)
            end = len(data) if newline < 0 else newline + 1
            out += self._new(data[at:end])
            at, self._within = end, newline < 0
        return bytes(out)

    def _begin(self, data: bytes, at: int) -> int:
        """Read a line's time; return where what follows it begins."""
        space = data.find(b" ", at)
        self._head += data[at : len(data) if space < 0 else space]
        if len(self._head) > _LONGEST_STAMP or (space >= 0 and not _STAMP.match(self._head)):
            raise ValueError((self._head + data[space:][:200]).decode("utf-8", "replace").strip())
        if space < 0:
            return len(data)
        stamp, self._head = self._head, b""
        self._within = True
        self._left = self._read_before(stamp)
        return space + 1

    def _read_before(self, stamp: bytes) -> int | None:
        """Return how much of a line that begins was read before; all of it where None."""
        if self._passed:
            self._bookmark.begin(stamp)
            return 0
        if self._skips.get(stamp, 0):
            self._skips[stamp] -= 1
            self._passed = stamp == self._bookmark.last and not self._skips[stamp]
            return self._bookmark.read if self._passed else None
        if _moment(stamp) < _moment(self._bookmark.last):
            return None
        self._passed = True  # what was read last is there no more: the file was rotated
        self._bookmark.begin(stamp)
        return 0

    def _new(self, content: bytes) -> bytes:
        if self._left is None:
            return b""
        fresh = content[self._left :]
        self._left -= len(content) - len(fresh)
        self._bookmark.read += len(fresh)
        return fresh


def _moment(stamp: bytes) -> tuple[datetime, bytes]:
    """Return a time to the nanosecond, as values that compare: the second, and the digits after it.

    Examples
    --------
    >>> _moment(b"2026-01-01T02:00:00.25+02:00") < _moment(b"2026-01-01T00:00:00.250000001Z")
    True
    """
    text = stamp.decode("ascii", "replace")
    whole, dot, rest = text.partition(".")
    if not dot:
        return datetime.fromisoformat(text), b""
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return datetime.fromisoformat(whole + rest[len(digits) :]), digits.rstrip("0").encode()
