"""A command in a running container, on our own streams: what goes in and out, and how it ended.

References
----------
Docker Engine API v1.41: "Create an exec instance", "Start an exec instance" (with ``Upgrade: tcp``), "Resize an exec instance".
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from airflow_dla.errors import NotFound
from airflow_dla.runtime.answers import Answer
from airflow_dla.runtime.docker.clients import Clients, answer_of, send
from airflow_dla.runtime.docker.frames import Demultiplexer
from airflow_dla.runtime.files import write_all
from airflow_dla.runtime.wires import Wire

_IN, _OUT, _ERR = 0, 1, 2
_SHELLS: Final = ("/bin/bash", "/bin/sh", "/bin/ash", "/busybox/sh")
_PIECE: Final = 1 << 16
_LOOK_S: Final = 0.2
_CODE_S: Final = 5.0
_KILLED: Final = 137
_JSON: Final = {"Content-Type": "application/json"}
_MISSING: Final = 404


def shell(has_file: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the shell of an image.

    Parameters
    ----------
    has_file : callable
        Whether something lies at a path in the container.

    Raises
    ------
    NotFound
        If none is where shells are, or the container is gone.

    Examples
    --------
    >>> shell({"/bin/sh"}.__contains__)
    ('/bin/sh',)
    """
    found = next(filter(has_file, _SHELLS), None)
    if found is None:
        raise NotFound(f"no shell is there (looked for {', '.join(_SHELLS)}): name a command that the image has, if it still runs")
    return (found,)


def enter(clients: Clients, container: str, command: Sequence[str], *, terminal: bool, patience_s: float) -> int:
    """Run a command in a running container on streams 0, 1 and 2 of this process.

    Parameters
    ----------
    clients : `Clients`
    container : str
        Its id or name.
    command : sequence of str
    terminal : bool
        Whether ours is a terminal: the command gets one of its size, and every key.
    patience_s : float
        Seconds that the engine may take for each request.

    Returns
    -------
    int
        Its exit status; 137 where the container ended first.

    Raises
    ------
    NotFound
        If the container does not run, or is gone.
    """
    entered = _Entered(clients, container, patience_s)
    wire = entered.start(command, terminal=terminal)
    try:
        with _every_key() if terminal else contextlib.nullcontext():
            _Relay(wire, clients, entered.resize if terminal else None).run()
    finally:
        wire.close()
    return entered.status()


class _Entered:
    """One command in a container, as the engine knows it."""

    def __init__(self, clients: Clients, container: str, patience_s: float) -> None:
        self._clients = clients
        self._container = container
        self._patience_s = patience_s
        self._id = ""

    def start(self, command: Sequence[str], *, terminal: bool) -> Wire:
        env = [f"TERM={os.environ.get('TERM', 'xterm')}"] if terminal else []
        streams = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": terminal}
        answer = self._ask("post", "/containers/{0}/exec", self._container, data={**streams, "Cmd": list(command), "Env": env})
        with self._clients.reading():
            self._id = str(answer.document["Id"])
        headers = {**_JSON, "Connection": "Upgrade", "Upgrade": "tcp"}
        asked = json.dumps({"Detach": False, "Tty": terminal})
        with self._clients.borrow() as client:
            response = send(
                client, "post", "/exec/{0}/start", self._id, stream=True, data=asked, headers=headers, timeout_s=self._patience_s
            )
            if not response.ok:
                self._good(self._clients.checked(answer_of(response)))
            return Wire(response.raw)

    def resize(self, columns: int, lines: int) -> bool:
        """Return whether it is done: the engine answers before the command's terminal is there."""
        size = {"w": columns, "h": lines}
        return self._clients.ask("post", "/exec/{0}/resize", self._id, params=size, timeout_s=self._patience_s).good

    def status(self) -> int:
        """Return the exit status, which the engine may know a moment after the output's end."""
        until = time.monotonic() + _CODE_S
        while True:
            answer = self._clients.ask("get", "/exec/{0}/json", self._id, timeout_s=self._patience_s)
            if not answer.good:
                return _KILLED
            if not answer.document.get("Running") and answer.document.get("ExitCode") is not None:
                return int(answer.document["ExitCode"])
            if time.monotonic() > until:
                return _KILLED
            time.sleep(0.02)

    def _ask(self, method: str, path: str, *parts: str, data: Any) -> Answer:
        return self._good(self._clients.ask(method, path, *parts, data=json.dumps(data), headers=_JSON, timeout_s=self._patience_s))

    def _good(self, answer: Answer) -> Answer:
        if not answer.good:
            raise NotFound(f"place {self._clients.name}: no command can be run in container {self._container}: {answer.words}")
        return answer


class _Relay:
    """Passes on what comes from either side; nothing waits for a side that does not take it, but our own output.

    Parameters
    ----------
    wire : `Wire`
    clients : `Clients`
        For the words of a connection that breaks.
    resize : callable or None
        Told the size of our terminal, and each new one; None where the command has none, and its
        streams come in frames.
    """

    def __init__(self, wire: Wire, clients: Clients, resize: Callable[[int, int], bool] | None) -> None:
        self._wire = wire
        self._clients = clients
        self._resize = resize
        self._frames = Demultiplexer()
        self._size: os.terminal_size | None = None
        self._unsent = b""
        self._more = True

    def run(self) -> None:
        wait_s = 0.0
        while True:
            self._fit()
            self._poll(wait_s)
            with self._faults():
                data = self._wire.receive(_PIECE)
                self._send()
            if data == b"":
                return
            self._show(data or b"")
            wait_s = 0.0 if data else _LOOK_S

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as fault:
            raise self._clients.unavailable(f"the connection to the command broke: {fault}") from fault

    def _fit(self) -> None:
        if self._resize is None:
            return
        size = os.get_terminal_size(_OUT)
        if size != self._size and self._resize(size.columns, size.lines):
            self._size = size

    def _poll(self, wait_s: float) -> None:
        """Wait for something from either side, and take what our own input has."""
        poll = select.poll()
        poll.register(self._wire.fileno(), select.POLLIN | (select.POLLOUT if self._unsent else 0))
        if self._more and not self._unsent:
            poll.register(_IN, select.POLLIN)
        if any(descriptor == _IN for descriptor, _ in poll.poll(wait_s * 1000)):
            self._take()

    def _take(self) -> None:
        try:
            self._unsent = os.read(_IN, _PIECE)
        except OSError:  # closed, or a terminal that has gone
            self._unsent = b""
        if not self._unsent:
            self._more = False
            self._wire.hang_up()

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._wire.send(self._unsent) :] if self._unsent else b""
        except (BrokenPipeError, ConnectionResetError):  # it has ended; what it wrote is still to come
            self._unsent, self._more = b"", False

    def _show(self, data: bytes) -> None:
        pieces = self._frames.feed(data) if self._resize is None else [(_OUT, data)]
        for stream, piece in pieces:
            write_all(_ERR if stream == _ERR else _OUT, piece)


@contextlib.contextmanager
def _every_key() -> Iterator[None]:
    """Leave every key of our terminal to the command, Ctrl-C among them."""
    before = termios.tcgetattr(_IN)
    tty.setraw(_IN)
    try:
        yield
    finally:
        termios.tcsetattr(_IN, termios.TCSADRAIN, before)
