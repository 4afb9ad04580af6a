"""The proxy that outage tests cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from cut_wire import CutWire


@pytest.fixture
def wire() -> Iterator[CutWire]:
    """Return a wire to a server that says back what it hears."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                caller, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(caller,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    made = CutWire("127.0.0.1", server.getsockname()[1])
    yield made
    made.close()
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def echo(caller: socket.socket) -> None:
    """Say back what comes."""
    with caller:
        while piece := caller.recv(100):
            caller.sendall(piece)


def call(wire: CutWire) -> socket.socket:
    """Connect and wait for an answer."""
    caller = socket.create_connection(("127.0.0.1", wire.port), timeout=5)
    caller.sendall(b"on")
    assert caller.recv(2) == b"on"
    return caller


def test_cut_and_mended(wire: CutWire) -> None:
    """A cut ends what is open and refuses what is new; then all is as before."""
    with call(wire) as caller:
        with wire.cut():
            assert caller.recv(2) == b""
            with pytest.raises(ConnectionRefusedError):
                call(wire)
        call(wire).close()


def test_silent_and_torn(wire: CutWire) -> None:
    """Silence loses nothing; a tear ends connections only."""
    with call(wire) as caller:
        with wire.silent():
            caller.settimeout(0.3)
            caller.sendall(b"in")
            with pytest.raises(TimeoutError):
                caller.recv(2)
        caller.settimeout(5)
        assert caller.recv(2) == b"in"
        wire.tear()
        assert caller.recv(2) == b""
    call(wire).close()
