"""The bytes of an answer that never ends, as they come: nothing here waits unless it is told to."""

from __future__ import annotations

import contextlib
import os
import select
import socket as sockets
import ssl
from collections.abc import Callable
from typing import Any, Final

from airflow_dla.runtime.chunks import Dechunker

#: Takes a number of bytes; returns at most so many, None where there are none now, none where there will be no more.
Receive = Callable[[int], bytes | None]

#: HTTP's status of a connection that is no HTTP from there on.
_SWITCHED: Final = 101
_LATER: Final = (BlockingIOError, TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Wire:
    """The body of a streamed response, read from its connection without waiting.

    Over a UNIX socket, TCP, TLS, or SSH. The connection is the wire's own until it is closed;
    where all of the body was received by then, it goes back to those that serve the next requests.

    Parameters
    ----------
    response : object
        Response of `urllib3`, of whose body nothing is read.
    """

    def __init__(self, response: Any) -> None:
        parsed = response._fp  # noqa: SLF001 - nobody else knows what is already read of the connection
        self._response = response
        self._chunks = Dechunker() if parsed.chunked else None
        self._left: int | None = None if parsed.chunked or parsed.status == _SWITCHED else parsed.length
        socket = _socket_of(parsed.fp)
        self._timeout_s = socket.gettimeout() if socket is not None else None
        self._early, self._receive, self._descriptor, self._sender = _unblocked(parsed.fp)

    def receive(self, size: int) -> bytes | None:
        """Return some bytes of the body; None where there are none now, and none at all at its end.

        Raises
        ------
        OSError
            If the connection broke.
        ValueError
            If what comes is no HTTP.
        """
        if self._left == 0 or (self._chunks is not None and self._chunks.ended):
            return b""
        data, self._early = self._early, b""
        received = data or self._receive(size)
        if received is None or self._chunks is None:
            return received if received is None or self._left is None else self._counted(received)
        body = self._chunks.feed(received)
        if body or self._chunks.ended:
            return body
        if not received:
            raise ConnectionResetError("the connection ended amid an answer")
        return None

    def _counted(self, received: bytes) -> bytes:
        """Take bytes of an answer whose length is known."""
        assert self._left is not None
        self._left -= len(received)
        if not received:
            raise ConnectionResetError("the connection ended amid an answer")
        return received

    def wait(self, timeout_s: float) -> None:
        """Wait until there may be something to receive, so many seconds at most."""
        if not self._early:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            poll.poll(timeout_s * 1000)

    def fileno(self) -> int:
        """Return what to poll; there may be bytes to `receive` though it says nothing."""
        return self._descriptor

    def send(self, data: bytes) -> int:
        """Send the beginning of some bytes without waiting; return how many went.

        Raises
        ------
        OSError
            If the connection broke, or is one that only reads.
        """
        try:
            return int(self._sender.send(data))
        except _LATER:
            return 0
        except AttributeError:
            raise OSError("nothing can be sent through the pipe of a started `ssh`") from None

    def hang_up(self) -> None:
        """Send no more, and let the other side know."""
        with contextlib.suppress(OSError):
            if hasattr(self._sender, "shutdown_write"):  # paramiko's
                self._sender.shutdown_write()
            else:
                self._sender.shutdown(sockets.SHUT_WR)

    def close(self) -> None:
        """Let go of the connection."""
        with contextlib.suppress(OSError):
            if isinstance(self._sender, sockets.socket) and self._is_whole():
                self._sender.settimeout(self._timeout_s)
                self._response._fp.close()  # noqa: SLF001 - it does not know that it was read
                self._response.release_conn()
            self._response.close()

    def _is_whole(self) -> bool:
        return self._chunks.complete if self._chunks is not None else self._left == 0


def _unblocked(reader: Any) -> tuple[bytes, Receive, int, Any]:
    """Return what a reader has buffered, how to read what lies behind it without waiting, and what else it lies on."""
    channel: Any = getattr(reader, "channel", None)
    if hasattr(channel, "recv_ready"):  # an SSH connection of paramiko's, whose readers are their own
        channel.settimeout(0.0)
        return bytes(reader._rbuffer), lambda size: _or_none(channel.recv, size), channel.fileno(), channel  # noqa: SLF001 - as above
    raw, socket = reader.raw, _socket_of(reader)
    if socket is not None:
        socket.settimeout(0.0)
    else:  # the pipe of a started `ssh`
        os.set_blocking(raw.fileno(), False)
    return bytes(_or_none(reader.peek, 0) or b""), lambda size: _or_none(raw.read, size), raw.fileno(), socket


def _socket_of(reader: Any) -> Any:
    return getattr(getattr(reader, "raw", None), "_sock", None)


def _or_none(read: Receive, size: int) -> bytes | None:
    try:
        return read(size)
    except _LATER:
        return None
