"""What a kubelet asks an engine for: commands in containers, and what they wrote."""

from __future__ import annotations

import contextlib
import importlib
import select
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fakes.kube.kubelet import Streams
from fakes.kube.resources import Refused

_LOOK_S: Final = 20.0
_PAUSE_S: Final = 0.5


def execute(client: Any, container: str, argv: Sequence[str], streams: Streams) -> int:
    """Run a command in a container; return its exit status."""
    made = client.exec_create(container, list(argv), stdin=True)["Id"]
    try:
        socket = client.exec_start(made, socket=True)
    except api_error() as error:
        raise Refused(500, "InternalError", f"error executing command in container: {error.explanation}") from None
    wire = socket._sock
    wire.settimeout(None)
    writer = threading.Thread(target=_write_all, args=(wire, streams.read()), daemon=True)
    writer.start()
    try:
        for stream, data in _frames(lambda size: _received(wire, size, lambda: client.exec_inspect(made)["Running"])):
            if data.startswith(b"OCI runtime exec failed"):
                raise Refused(500, "InternalError", f"error executing command in container: {data.decode().strip()}")
            streams.write(data, error=stream == 2)
    finally:
        for held in (socket, wire, socket._response):
            with contextlib.suppress(OSError, ValueError):  # what lies below may be closed before
                held.close()
    until = time.monotonic() + _LOOK_S
    while (code := client.exec_inspect(made)["ExitCode"]) is None and time.monotonic() < until:
        time.sleep(0.01)
    return int(code if code is not None else 137)


def _received(wire: Any, size: int, runs: Callable[[], bool]) -> bytes:
    """Receive from a command: an engine leaves its streams open when the container ends under it."""
    while not select.select([wire], [], [], _PAUSE_S)[0]:
        if not runs() and not select.select([wire], [], [], _PAUSE_S)[0]:
            return b""
    return bytes(wire.recv(size))


def _write_all(wire: Any, pieces: Iterator[bytes]) -> None:
    with contextlib.suppress(OSError):
        for piece in pieces:
            wire.sendall(piece)
        wire.shutdown(sockets.SHUT_WR)


def log(client: Any, container: str, *, follow: bool) -> Iterator[tuple[int, bytes]]:
    """Yield what a container has written, in pieces with their times."""
    what = {"stdout": 1, "stderr": 1, "timestamps": 1, "follow": int(follow)}
    answer = client._get(client._url("/containers/{0}/logs", container), params=what, stream=True, timeout=None)
    try:
        for _, frame in _frames(answer.raw.read):
            stamp, _, data = frame.partition(b" ")
            yield _nanoseconds(stamp.decode()), data
    finally:
        answer.close()


def _frames(read: Callable[[int], bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield what the engine says of a container's streams."""

    def whole(size: int) -> bytes:
        found = b""
        while len(found) < size and (more := read(size - len(found))):
            found += more
        return found

    while len(head := whole(8)) == 8:
        yield head[0], whole(int.from_bytes(head[4:], "big"))


def api_error() -> Any:
    """Return what the engine's client raises."""
    return importlib.import_module("docker").errors.APIError


def _nanoseconds(stamp: str) -> int:
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 10**9 + int(fraction.ljust(9, "0")[:9] or 0)
