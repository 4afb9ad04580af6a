"""A command in a container, its streams over a websocket: bytes both ways at once, its end in words or a number.

The server takes what we write as frames, the first byte of each naming the stream. It
has a word for the end of a stream only since version 5 of this protocol (Kubernetes
1.30): we say it where it is understood, and nothing should wait for it.

References
----------
RFC 6455, The WebSocket Protocol. Kubernetes Enhancement Proposal 4006, "Transition from SPDY to WebSockets".
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final, Self

from airflow_dla.errors import NotFound, PlaceUnavailable
from airflow_dla.runtime.kubernetes.websockets import BINARY, CLOSE, PING, PONG, Frames, frame
from airflow_dla.runtime.wires import Wire

PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")

_STDIN, _STDOUT, _STDERR, _STATUS, _END = 0, 1, 2, 3, 255
_PIECE: Final = 1 << 15
_ERROR_KEPT: Final = 1 << 16
_NOT_FOUND: Final = 127
#: Of the program itself: a container that is about to end lacks files, too.
_NO_PROGRAM: Final = re.compile(
    r'exec: \\*"[^"]*": (executable file not found|stat .*: no such file or directory|permission denied|is a directory)'
)
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command did.

    Parameters
    ----------
    out, err : bytes
        What it wrote.
    code : int
        Its exit status; 127 where there is no such command.
    """

    out: bytes
    err: bytes
    code: int


def greeting() -> tuple[dict[str, str], str]:
    """Return the headers that ask for a websocket, and what the server must answer to its key."""
    key = b64encode(os.urandom(16))
    headers = {
        "Accept": "*/*", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key.decode(),
        "Sec-WebSocket-Protocol": ", ".join(PROTOCOLS),
    }  # fmt: skip
    return headers, b64encode(sha1(key + _MAGIC).digest()).decode()  # noqa: S324 - RFC 6455 has it so


class Channel:
    """A command that runs: iterate over it for what it writes to its standard output.

    Its standard input is written meanwhile. It is a context manager: leaving it cuts the
    connection, which the command may outlive.

    Parameters
    ----------
    wire : `Wire`
    stdin : iterable of bytes
        Taken piece by piece, as fast as the command reads.
    closes : bool
        Whether the server has a word for the end of a stream.
    where : str
        Which command in which container, for messages.
    patience_s : float
        Seconds without a sign of life from the server, which is asked for one while nothing is written.
    timeout_s : float or None
        Seconds that the command may take.
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(
        self, wire: Wire, stdin: Iterable[bytes], *, closes: bool, where: str, patience_s: float, timeout_s: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._wire = wire
        self._stdin: Iterator[bytes] | None = iter(stdin)
        self._closes = closes
        self._where = where
        self._patience_s = patience_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._until = clock() + timeout_s if timeout_s is not None else float("inf")
        self._heard_at = self._asked_at = clock()
        self._frames = Frames()
        self._sending = b""
        self._err = bytearray()
        self._status: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        """Yield standard output as it comes, until the command ends.

        Raises
        ------
        PlaceUnavailable
            If the connection breaks off, or the command takes too long.
        NotFound
            If the container does not run.
        """
        while self._status is None:
            try:
                yield from self._step()
            except (OSError, ValueError) as fault:
                if isinstance(fault, PlaceUnavailable):
                    raise
                raise PlaceUnavailable(f"{self._where}: the connection broke off: {fault}") from fault
        self._raise_refusal()

    @property
    def err(self) -> bytes:
        """Return the first that it wrote to its standard error."""
        return bytes(self._err)

    @property
    def code(self) -> int:
        """Return its exit status, once it has ended; 127 where there is no such command."""
        if self._status is None:
            raise PlaceUnavailable(f"{self._where}: it has not ended")
        return _code(self._status)

    def close(self) -> None:
        """Cut the connection."""
        with contextlib.suppress(OSError):
            self._wire.send(frame(CLOSE, b"\x03\xe8"))
        self._wire.close()

    def _step(self) -> Iterator[bytes]:
        """Do what can be done now, then wait until there is more."""
        self._write()
        received = self._wire.receive(_PIECE)
        if received is None:
            self._wait()
            return
        self._heard_at = self._clock()
        if not received:
            raise ConnectionResetError("it ended without a status")
        for opcode, payload in self._frames.feed(received):
            yield from self._take(opcode, payload)

    def _take(self, opcode: int, payload: bytes) -> Iterator[bytes]:
        if opcode == PING:
            self._sending += frame(PONG, payload)
        elif opcode == CLOSE and self._status is None:
            raise ConnectionResetError(f"the server closed it: {payload[2:].decode('utf-8', 'replace') or 'without a word'}")
        elif opcode not in (CLOSE, PONG) and payload:
            stream, data = payload[0], payload[1:]
            if stream == _STDOUT and data:
                yield data
            elif stream == _STDERR:
                self._err += data[: _ERROR_KEPT - len(self._err)]
            elif stream == _STATUS and data:
                self._status = json.loads(data)

    def _write(self) -> None:
        """Write on, as much as goes; one piece of input is held at a time."""
        while self._sending or self._next_piece():
            sent = self._wire.send(self._sending)
            self._sending = self._sending[sent:]
            if self._sending:
                return

    def _next_piece(self) -> bool:
        if self._stdin is None:
            return False
        piece = next(self._stdin, None)
        if piece is None:
            self._stdin = None
            self._sending = frame(BINARY, bytes([_END, _STDIN])) if self._closes else b""
        else:
            cuts = range(0, len(piece), _PIECE)
            self._sending = b"".join(frame(BINARY, bytes([_STDIN]) + piece[at : at + _PIECE]) for at in cuts)
        return bool(self._sending) or self._stdin is not None

    def _wait(self) -> None:
        now = self._clock()
        if now >= self._until:
            raise PlaceUnavailable(f"{self._where}: it did not end within {self._timeout_s:g} s")
        if now - self._heard_at >= self._patience_s:
            raise PlaceUnavailable(f"{self._where}: the API server was silent for {self._patience_s:g} s")
        quiet_s = self._patience_s / 3
        if now - max(self._heard_at, self._asked_at) >= quiet_s:
            self._asked_at = now
            self._sending += frame(PING, b"")
        poll = select.poll()
        poll.register(self._wire.fileno(), select.POLLIN | (select.POLLOUT if self._sending else 0))
        poll.poll(max(1.0, 1000 * min(quiet_s, self._until - now)))

    def _raise_refusal(self) -> None:
        """Raise what the server says, where it says nothing of a command that ran."""
        assert self._status is not None
        if _code(self._status) >= 0:
            return
        words = str(self._status.get("message", "")).strip() or json.dumps(self._status)
        absent = any(word in words for word in ("container not found", "not running", "is not created", "does not have a host assigned"))
        raise (NotFound if absent else PlaceUnavailable)(f"{self._where}: {words}")


def _code(status: dict[str, Any]) -> int:
    """Return the exit status in the server's last word; 127 where there is no such command, -1 where it is about something else.

    Examples
    --------
    >>> _code({"status": "Success"})
    0
    >>> _code({"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}})
    3
    >>> _code({"status": "Failure", "message": 'exec: "ls": executable file not found in $PATH'})
    127
    >>> _code({"status": "Failure", "message": "error executing setns process: open /proc/7/ns/ipc: no such file or directory"})
    -1
    """
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or []
    found = [str(cause.get("message", "")) for cause in causes if cause.get("reason") == "ExitCode"]
    if found and found[0].isdigit():
        return int(found[0])
    return _NOT_FOUND if _NO_PROGRAM.search(str(status.get("message", ""))) else -1
