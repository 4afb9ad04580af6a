"""A container's output by byte offset, read as it comes and kept nowhere.

A `LogStream` holds one answer of the log API open and knows at which byte it stands, so
that reading on costs one look at a socket. When the connection breaks, or the server ends
it, it asks for what came since the last lines that it read. Whoever begins amid an output
reads it from its beginning and skips. Each log that is followed costs its node one of
128 watchers (`fs.inotify.max_user_instances`): few are, the others are asked for now and
then, less often the less they have to say.

A node shows the newest of a container's log files alone (10 MiB by default). What was
rotated away while nobody followed is lost: offsets count on from what was read, and where
a process begins anew at an offset that the file does not reach any more, from its end.
"""

from __future__ import annotations

import enum
import re
import threading
import time
from collections.abc import Callable
from typing import Final

from airflow_dla.errors import NotFound, PlaceUnavailable
from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.runtime.kubernetes.stamps import Bookmark, StampedLines
from airflow_dla.runtime.wires import Wire

_PIECE: Final = 1 << 16
_MOMENT_S: Final = 0.5
#: How long it is waited before a log is asked for again, seconds; the longer, the less it said.
_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 8.0
#: The least such wait of one that is not followed: where those are many, each second less is paid for with CPU.
_LOOK_REST_S: Final = 5.0
#: How long it is not tried to follow a log again whose node has no watchers left, seconds.
_UNWATCHED_S: Final = 60.0
#: What a node says, instead of a container's output, when it has removed that.
_REMOVED: Final = re.compile(rb"unable to retrieve container logs for [^\n]{1,200}$")
#: What a node adds to a log that it has no watchers left for.
_NO_WATCHER: Final = re.compile(rb"failed to create fsnotify watcher: [^\n]{1,200}$")


class _Purpose(enum.Enum):
    """What an answer of the log API is for: only the first has no end while the container runs.

    Who begins must see at once what there is, so he does not begin by following.
    """

    FOLLOW = enum.auto()
    LOOK = enum.auto()
    CATCH_UP = enum.auto()
    END = enum.auto()


class LogStream:
    """The output of one container, standard output and error in the order of their arrival, by byte offset.

    Safe from several threads, who take turns.

    Parameters
    ----------
    cluster : `Cluster`
    pod, container : str
    slots : semaphore, optional
        Those that are followed share it; by default this one is.
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(
        self, cluster: Cluster, pod: str, container: str, *, slots: threading.Semaphore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._pod = pod
        self._container = container
        self._clock = clock
        self._turn = threading.Lock()
        self._wire: Wire | None = None
        self._slots = slots or threading.Semaphore(1)
        self._purpose = _Purpose.FOLLOW
        self._unwatched_until = float("-inf")
        self.ended = False
        self.refusal = ""
        self._begin_anew()

    def read(self, offset: int, limit: int = 1 << 20, *, last: bool = False, patience_s: float = 10.0) -> bytes:
        """Return the output from a byte offset: what there is now, at most `limit` bytes.

        Parameters
        ----------
        offset : int
            In bytes from the beginning. On from the last read, or from the beginning of its
            unfinished line, it costs nothing; elsewhere everything before it is read again,
            as much as a moment allows in each call.
        limit : int
            In bytes.
        last : bool
            The container has ended: wait for `limit` bytes or the end of its output.
        patience_s : float
            Seconds to wait at most where `last`.

        Returns
        -------
        bytes
            Empty where there is nothing now; for ever, once it `ended`, which only what is read with `last` does.

        Raises
        ------
        PlaceUnavailable
            If the server does not answer; the next read asks again.
        """
        with self._turn:
            if offset < self._begin:
                self._close()
                self._begin_anew()
            self._drop(offset)
            try:
                self._read_on(offset, limit, self._clock() + (patience_s if last else _MOMENT_S), last=last)
            except (OSError, ValueError) as fault:
                self._close()
                gone = "no such file or directory" in str(fault)  # its node has removed it with its pod, or has not made it yet
                if gone and last:
                    self.ended, self.refusal = True, str(fault)
                if not gone and not self._held[offset - self._begin :]:
                    raise self._broken(fault) from fault
            taken = bytes(self._held[max(0, offset - self._begin) :][:limit])
            self._drop(offset + taken.rfind(b"\n") + 1)
            return taken

    def close(self) -> None:
        """Let go of the connection; a later read opens another, and reads on."""
        with self._turn:
            self._close()

    # --- inside ---

    def _begin_anew(self) -> None:
        self._bookmark = Bookmark()
        self._held = bytearray()
        self._begin = 0
        self._opens_at = float("-inf")
        self._rest_s = _REST_S
        self._caught_up = False
        self.ended, self.refusal = False, ""

    def _close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            if self._purpose is _Purpose.FOLLOW:
                self._slots.release()
        self._wire = None

    @property
    def _position(self) -> int:
        return self._begin + len(self._held)

    def _drop(self, offset: int) -> None:
        """Let go of what lies before an offset; nobody asks for it again."""
        size = min(max(0, offset - self._begin), len(self._held))
        del self._held[:size]
        self._begin += size

    def _read_on(self, offset: int, limit: int, until: float, *, last: bool) -> None:
        while self._position < offset + limit and not self.ended:
            if self._wire is None and not self._open(offset, last=last):
                return
            received = self._received(last=last)
            if received is None:
                left_s = until - self._clock()
                if (self._purpose is _Purpose.FOLLOW and not last) or left_s <= 0:
                    return
                assert self._wire is not None
                self._wire.wait(left_s)
            elif received:
                self._take(received, offset)
                if self._clock() >= until and not last:
                    return
            else:
                self._end(offset)

    def _received(self, *, last: bool) -> bytes | None:
        """Receive what there is now; of what has ended, a connection that broke is asked for no more."""
        assert self._wire is not None
        try:
            return self._wire.receive(_PIECE)
        except OSError:
            if last and self._purpose is _Purpose.FOLLOW:
                return b""
            raise

    def _take(self, received: bytes, offset: int) -> None:
        if self._purpose is _Purpose.FOLLOW and (found := _NO_WATCHER.search(received)):
            self._unwatched_until = self._clock() + _UNWATCHED_S
            received = received[: found.start()]
        if _REMOVED.match(received):  # with no time before it, so it is none of the program's lines
            received = b""
        new = self._lines.feed(received)
        self._rest_s = _REST_S if new else self._rest_s
        self._held += new
        self._drop(min(offset, self._position))

    def _open(self, offset: int, *, last: bool) -> bool:
        """Ask for what is new; whether there is something to read."""
        if not last and self._clock() < self._opens_at:
            return False
        purpose = self._purpose_of(offset, last=last)
        follows = purpose is _Purpose.FOLLOW
        try:
            self._wire = self._cluster.output(self._pod, self._container, since=self._bookmark.since, follow=follows)
        except NotFound as error:
            self.ended, self.refusal = True, str(error)
        finally:
            if follows and self._wire is None:
                self._slots.release()
        self._purpose, self._lines = purpose, StampedLines(self._bookmark)
        self._opens_at = self._clock() + max(self._rest_s, _LOOK_REST_S if purpose is _Purpose.LOOK else 0.0)
        self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)
        return self._wire is not None

    def _purpose_of(self, offset: int, *, last: bool) -> _Purpose:
        if last:
            return _Purpose.END
        if offset > self._position or not self._caught_up:
            return _Purpose.CATCH_UP
        watched = self._clock() >= self._unwatched_until and self._slots.acquire(blocking=False)
        return _Purpose.FOLLOW if watched else _Purpose.LOOK

    def _end(self, offset: int) -> None:
        """Take note of an answer's end: it was all that there is, or all that the server would tell."""
        self._close()
        self.ended = self._purpose is _Purpose.END
        if self._purpose is _Purpose.CATCH_UP:
            self._opens_at = float("-inf")
            self._caught_up = True
        if self._purpose is not _Purpose.FOLLOW and self._position < offset:  # what was there is rotated away: read on from here
            self._held.clear()
            self._begin = offset

    def _broken(self, fault: Exception) -> PlaceUnavailable:
        if isinstance(fault, PlaceUnavailable):
            return fault
        where = f"container {self._container!r} in pod {self._pod!r}"
        return PlaceUnavailable(f"place {self._cluster.name}: the log of {where} broke off: {fault}")
