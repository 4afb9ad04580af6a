"""A container's output by byte offset, read as it comes and kept nowhere.

The engine knows no offsets: it streams a container's output from the beginning, or from
now on. A `LogStream` holds one such answer open and knows at which byte it stands, so
that reading on costs one look at a socket. Whatever else is asked for, it begins anew and
skips; the engine keeps the order in which the output of both streams arrived, so each
byte has the same offset every time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from airflow_dla.errors import PlaceUnavailable
from airflow_dla.runtime.docker.clients import Clients, answer_of, send
from airflow_dla.runtime.docker.frames import Demultiplexer, Frames
from airflow_dla.runtime.wires import Wire

STDOUT: Final = 1
STDERR: Final = 2

_ENGINE: Final = 3
_PIECE: Final = 1 << 16
_MOMENT_S: Final = 0.5
_OPENING_S: Final = 10.0


class LogStream:
    """The output of one container, stdout and stderr in the order of their arrival, by byte offset.

    To be made once the container was started: of one that never was, the engine gives an
    output that has ended. Safe from several threads, who take turns.

    Parameters
    ----------
    clients : `Clients`
        Of the container's engine.
    container : str
        Its id.
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(self, clients: Clients, container: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clients = clients
        self._container = container
        self._clock = clock
        self._turn = threading.Lock()
        self._ended = False
        self._refusal = ""
        self._settled = False
        self._begin_anew()

    @property
    def ended(self) -> bool:
        """Whether the engine said that there will be no more; true before everything is read."""
        return self._ended

    @property
    def refusal(self) -> str:
        """Why the engine has no output of this container, in its words; empty where it has."""
        return self._refusal

    def read(self, offset: int, limit: int = 1 << 20, *, last: bool = False, patience_s: float = 10.0) -> bytes:
        """Return the output from a byte offset: what there is now, at most `limit` bytes.

        Parameters
        ----------
        offset : int
            In bytes from the beginning. On from the last read it costs nothing; elsewhere
            everything before it is read again, as much as a moment allows in each call.
        limit : int
            In bytes.
        last : bool
            The container has ended: wait for `limit` bytes or the end of its output. What
            was followed while it ran is read once more when its end is reached, since
            engines may leave out the last of it.
        patience_s : float
            Seconds to wait at most where `last`.

        Returns
        -------
        bytes
            Empty where there is nothing now; for ever, once it `ended` and was read with `last`.

        Raises
        ------
        PlaceUnavailable
            If the connection broke; the next read opens another.
        """
        return b"".join(data for _, data in self.read_frames(offset, limit, last=last, patience_s=patience_s))

    def read_frames(self, offset: int, limit: int = 1 << 20, *, last: bool = False, patience_s: float = 10.0) -> Frames:
        """Return what `read` does, as pairs of the stream it came from and bytes."""
        with self._turn:
            if offset < self._position and not self._step_back(offset):
                self._close()
            taken: Frames = []
            before = self._position
            try:
                until = self._clock() + (patience_s if last else _MOMENT_S)
                self._read_on(taken, offset, limit, until, last=last)
                if last and self._ended and not (taken or self._settled or self._refusal):
                    # Followed to its end an engine (20.10) may leave out the last lines; asked after the end it does not.
                    self._close()
                    self._read_on(taken, offset, limit, until, last=last)
            except (OSError, ValueError) as fault:
                self._close()
                if taken:
                    return taken  # what came is good; the next read finds out whether the engine answers
                if isinstance(fault, PlaceUnavailable):
                    raise
                raise self._clients.unavailable(f"the log of container {self._container[:12]} broke off: {fault}") from fault
            if self._position != before:
                self._keep_behind(taken)
            return taken

    def close(self) -> None:
        """Let go of the connection; a later read opens another."""
        with self._turn:
            self._close()

    def _read_on(self, taken: Frames, offset: int, limit: int, until: float, *, last: bool) -> None:
        if self._wire is None and not self._ended:
            self._settled = last
            self._open()
        self._take(taken, offset, limit, until, waits=last)

    def _begin_anew(self) -> None:
        self._wire: Wire | None = None
        self._frames = Demultiplexer()
        self._pending: deque[tuple[int, bytes]] = deque()
        self._behind: Frames = []
        self._position = 0

    def _close(self) -> None:
        if self._wire is not None:
            self._wire.close()
        self._ended, self._refusal = False, ""
        self._begin_anew()

    def _open(self) -> None:
        what = {"follow": 1, "stdout": 1, "stderr": 1}
        with self._clients.borrow() as client:
            response = send(client, "get", "/containers/{0}/logs", self._container, timeout_s=_OPENING_S, params=what, stream=True)
            if response.ok:
                self._wire = Wire(response.raw)
                return
            answer = self._clients.checked(answer_of(response))
        self._ended, self._refusal = True, answer.words

    def _keep_behind(self, taken: Frames) -> None:
        self._behind = _unfinished(taken)

    def _step_back(self, offset: int) -> bool:
        """Take back the unfinished line of the last read; return whether that is far enough."""
        self._pending.extendleft(reversed(self._behind))
        self._position -= sum(len(data) for _, data in self._behind)
        self._behind = []
        return offset >= self._position

    def _take(self, taken: Frames, offset: int, limit: int, until: float, *, waits: bool) -> None:
        """Take bytes from the wire, skipping those before the offset."""
        left = limit
        while left > 0 and (self._pending or self._received(until, waits=waits)):
            if not self._pending:
                continue
            stream, data = self._pending.popleft()
            skipped = data[max(0, offset - self._position) :]
            piece, rest = skipped[:left], skipped[left:]
            if rest:
                self._pending.appendleft((stream, rest))
            self._position += len(data) - len(rest)
            if piece:
                taken.append((stream, piece))
                left -= len(piece)

    def _received(self, until: float, *, waits: bool) -> bool:
        """Receive into `_pending`; return whether looking again is worth while."""
        if self._wire is None:
            return False
        body = self._wire.receive(_PIECE)
        if body is None:
            left_s = until - self._clock()
            if not waits or left_s <= 0:
                return False
            self._wire.wait(left_s)
            return True
        if not body:
            return self._end()
        for stream, data in self._frames.feed(body):
            self._keep(stream, data)
        return self._clock() < until

    def _keep(self, stream: int, data: bytes) -> None:
        if stream == _ENGINE:
            self._refusal += data.decode("utf-8", "replace")
        else:
            self._pending.append((stream, data))

    def _end(self) -> bool:
        if self._frames.within:
            raise ConnectionResetError("the connection ended amid a frame")
        assert self._wire is not None
        self._wire.close()
        self._wire, self._ended = None, True
        return False


def _unfinished(frames: Frames) -> Frames:
    """Return what comes after the last line's end: readers who take whole lines ask for it again."""
    found: Frames = []
    for stream, data in reversed(frames):
        _, newline, rest = data.rpartition(b"\n")
        found.append((stream, rest))
        if newline:
            break
    return found[::-1]
