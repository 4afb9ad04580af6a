"""Answers that are read from their connections, against a server of HTTP that counts these."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest
import urllib3

from airflow_dla.runtime.wires import Wire

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"


class Peer:
    """Answers each request on a connection with the next of some pieces, sent one by one."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.answers: list[list[bytes]] = []
        self.connections = 0
        self.go_on = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def get(self, pool: urllib3.PoolManager) -> Any:
        """Return the response to one request, its body unread."""
        port = self._server.getsockname()[1]
        return pool.request("GET", f"http://127.0.0.1:{port}/", preload_content=False, retries=False, timeout=10)

    def close(self) -> None:
        """End."""
        self.go_on.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while self._one_connection():
            pass

    def _one_connection(self) -> bool:
        try:
            connection, _ = self._server.accept()
        except OSError:
            return False
        self.connections += 1
        with connection, connection.makefile("rb") as reader, contextlib.suppress(ConnectionError):
            while asked(reader) and self.answers:
                first, *rest = self.answers.pop(0)
                connection.sendall(first)
                for piece in rest:
                    self.go_on.wait(10)
                    connection.sendall(piece)
        return True


def asked(reader: BinaryIO) -> bool:
    """Read a request; whether there was one."""
    lines = itertools.takewhile(lambda line: line not in (b"", b"\r\n"), iter(reader.readline, None))
    return len(list(lines)) > 0


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Serve until the test has ended."""
    made = Peer()
    yield made
    made.close()


@pytest.fixture
def pool() -> Iterator[urllib3.PoolManager]:
    """Keep connections as clients do."""
    with urllib3.PoolManager() as made:
        yield made


def read(wire: Wire) -> bytes:
    """Return all of a body, waiting for it."""
    data = b""
    while (received := wire.receive(7)) != b"":
        data += received or b""
        if received is None:
            wire.wait(5)
    return data


@pytest.mark.parametrize(
    "answer",
    [WHOLE, CHUNKED + b"3\r\nabc\r\n0\r\nA: b\r\nC: d\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"],
    ids=["chunks", "with fields behind them", "of known length"],
)
def test_whole_answer(peer: Peer, pool: urllib3.PoolManager, answer: bytes) -> None:
    """The connection of an answer that was read whole serves the next request."""
    peer.answers = [[answer], [answer], [WHOLE]]
    for _ in range(2):
        wire = Wire(peer.get(pool))
        assert read(wire) == b"abc"
        wire.close()
    response = peer.get(pool)
    assert response.read() == b"abc"
    response.release_conn()
    assert peer.connections == 1


@pytest.mark.parametrize(("kept", "then"), [(5, None), (2, b"")], ids=["its last chunk", "the line behind its last chunk"])
def test_half_an_answer(peer: Peer, pool: urllib3.PoolManager, kept: int, then: bytes | None) -> None:
    """A body is over with its last chunk, yet while anything is to come its connection is closed instead of given back."""
    peer.answers = [[WHOLE[:-kept], WHOLE[-kept:]], [WHOLE]]
    wire = Wire(peer.get(pool))
    assert wire.receive(100) == b"abc"
    assert wire.receive(100) == then
    wire.close()
    peer.go_on.set()
    wire = Wire(peer.get(pool))
    assert read(wire) == b"abc"
    wire.close()
    assert peer.connections == 2


def test_answer_without_length(peer: Peer, pool: urllib3.PoolManager) -> None:
    """The connection of an answer that has no end but the connection's is closed."""
    peer.answers = [[b"HTTP/1.0 200 OK\r\n\r\nabc"]]
    wire = Wire(peer.get(pool))
    data = wire.receive(100)
    while data is None:
        wire.wait(5)
        data = wire.receive(100)
    assert data == b"abc"
    wire.close()
    peer.answers = [[WHOLE]]
    wire = Wire(peer.get(pool))
    assert read(wire) == b"abc"
    wire.close()
    assert peer.connections == 2


def test_broken_answer(peer: Peer, pool: urllib3.PoolManager) -> None:
    """A connection that ends amid an answer is an error, and is not used again."""
    peer.answers = [[WHOLE[:-7]]]
    wire = Wire(peer.get(pool))
    wire.hang_up()  # at which the peer hangs up, too
    with pytest.raises(ConnectionResetError, match="amid an answer"):
        read(wire)
    wire.close()
