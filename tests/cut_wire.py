"""A wire to a server that a test may cut: a TCP proxy of the test's own, so that nobody else's connections suffer."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_PIECE: Final = 1 << 16
_TICK_S: Final = 0.2


class CutWire:
    """Passes bytes on to a server, until it is cut or hushed.

    Parameters
    ----------
    host, port : str, int
        The server.

    Examples
    --------
    >>> wire = CutWire("127.0.0.1", 6443)
    >>> with wire.cut():
    ...     pass
    >>> wire.close()
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._passes = threading.Event()
        self._passes.set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self._begin()

    # --- what tests do ---

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Break every connection and refuse new ones, as a server does that is down."""
        self._refuse()
        self._break()
        try:
            yield
        finally:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._begin()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Pass nothing on and break nothing, as a firewall does that drops."""
        self._passes.clear()
        try:
            yield
        finally:
            self._passes.set()

    def tear(self) -> None:
        """Break every connection once; new ones are passed on."""
        self._break()

    def close(self) -> None:
        """End it."""
        self._closed = True
        self._passes.set()
        self._refuse()
        self._break()

    # --- wires ---

    def _refuse(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # closed alone it would listen on in the thread that accepts
        self._listener.close()

    def _begin(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._join, args=(caller,), daemon=True).start()

    def _join(self, caller: socket.socket) -> None:
        self._passes.wait()
        try:
            server = socket.create_connection(self._server, timeout=10)
        except OSError:
            caller.close()
            return
        ends = {caller, server}
        for end in ends:
            end.settimeout(None)
        with self._lock:
            self._open |= ends
        try:
            self._pump(caller, server)
        finally:
            with self._lock:
                self._open -= ends
            for end in ends:
                end.close()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        """Pass on what comes from either end until one has ended."""
        across = {one: other, other: one}
        with contextlib.suppress(OSError, ValueError):
            while not self._closed:
                ready, _, _ = select.select([one, other], [], [], _TICK_S)
                self._passes.wait()
                for end in ready:
                    piece = end.recv(_PIECE)
                    if not piece:
                        return
                    across[end].sendall(piece)

    def _break(self) -> None:
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
