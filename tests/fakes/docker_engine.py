"""Something at a UNIX socket that speaks as it is told to, well or badly."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

#: Takes the first line of a request; returns the pieces of the answer as they shall be sent.
Script = Callable[[str], Iterator[bytes]]


class FakeEngine:
    """Answers each connection's requests by a script, and hangs up after an answer.

    Parameters
    ----------
    path : Path
        Of the socket.
    script : callable
        What it answers to a request's first line.
    """

    def __init__(self, path: Path, script: Script) -> None:
        self.address = f"unix://{path}"
        self.requests: list[str] = []
        self._script = script
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as reader:
            line = reader.readline().decode().strip()
            while reader.readline().strip():
                pass
            self.requests.append(line)
            for piece in self._script(line):
                connection.sendall(piece)


def answer(status: str, body: str, kind: str = "application/json") -> bytes:
    """Return a whole answer."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


def nothing_in_it(line: str) -> Iterator[bytes]:
    """Answer as an engine of four CPUs and 8 GiB, with no container, whose registry knows nobody."""
    if line.startswith("POST") and "/auth" in line:
        yield answer("401 Unauthorized", '{"message": "unauthorized: incorrect username or password"}')
    elif "/version" in line:
        yield answer("200 OK", '{"ApiVersion": "1.41", "Version": "20.10.24"}')
    elif "/info" in line:
        yield answer("200 OK", '{"NCPU": 4, "MemTotal": 8589934592, "Name": "h", "Runtimes": {"runc": {}}}')
    elif "/containers/json" in line:
        yield answer("200 OK", "[]")
    else:
        yield answer("200 OK", "OK", "text/plain")
