"""Commands inside a running container, with and without a terminal, on a real engine."""

from __future__ import annotations

import hashlib
import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_dla.errors import NotFound
from airflow_dla.runtime.docker.engine import Engine

_PROGRAM = """
import docker, sys
from airflow_dla.runtime.docker.engine import Engine

engine = Engine(lambda: docker.APIClient(base_url=sys.argv[1], version="auto", timeout=30), name="here")
sys.exit(engine.enter(sys.argv[3], sys.argv[4:], terminal=sys.argv[2] == "terminal"))
"""
_ROOT = Path(__file__).parents[3]


@pytest.fixture
def running(engine: Engine, make: Callable[..., str]) -> str:
    """Return the id of a container that runs."""
    container = make("exec sleep 300")
    engine.start(container)
    return container


@pytest.fixture
def command(engine_host: str, running: str) -> Callable[..., list[str]]:
    """Return a function that writes the command line of a program which enters that container."""

    def command_(*argv: str, mode: str = "plain") -> list[str]:
        return [sys.executable, "-c", _PROGRAM, engine_host, mode, running, *argv]

    return command_


def done(argv: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end."""
    return subprocess.run(argv, input=stdin, capture_output=True, timeout=60, check=False, cwd=_ROOT, env={**os.environ})


def test_both_streams_and_the_status_are_the_command_s(command: Callable[..., list[str]]) -> None:
    """Output and errors come apart, and the status is ours."""
    found = done(command("sh", "-c", "echo out; echo err >&2; exit 7"))
    assert (found.returncode, found.stdout, found.stderr) == (7, b"out\n", b"err\n")


def test_quick_commands_lose_nothing(engine: Engine, running: str, capfd: pytest.CaptureFixture[str]) -> None:
    """What a command says before we listen is not lost."""
    for number in range(20):
        assert engine.enter(running, ["echo", str(number)], terminal=False) == 0
    assert capfd.readouterr().out.split() == [str(number) for number in range(20)]


def test_megabytes_go_through_both_ways(command: Callable[..., list[str]]) -> None:
    """Input and output of more than any buffer holds arrive whole, and the end of the input is seen."""
    data = os.urandom(1 << 20) * 6
    found = done(command("cat"), data)
    assert (found.returncode, hashlib.sha256(found.stdout).hexdigest()) == (0, hashlib.sha256(data).hexdigest())


def test_a_command_that_does_not_read_ends_all_the_same(command: Callable[..., list[str]]) -> None:
    """Input that nobody takes holds nothing up."""
    assert done(command("true"), b"x" * (4 << 20)).returncode == 0


def test_a_command_that_is_not_there(command: Callable[..., list[str]]) -> None:
    """A command that the image has not says so, and its status is not 0."""
    found = done(command("no-such-program"))
    assert found.returncode in {1, 126, 127}
    assert b"no-such-program" in found.stdout + found.stderr


def test_a_terminal(command: Callable[..., list[str]]) -> None:
    """With a terminal the command has one, of our size, and Ctrl-C is the command's, not ours."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(_ROOT)
        argv = command("sh", "-c", "while stty size; do sleep 0.3; done", mode="terminal")
        os.execv(argv[0], argv)
    pty_size(terminal, lines=33, columns=101)
    seen = read_until(terminal, b"33 101")
    assert b"33 101" in seen, seen
    os.write(terminal, b"\x03")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    assert status == 130


def test_a_shell_by_default(engine_host: str, running: str) -> None:
    """Without a command a shell of the image is run."""
    found = done([sys.executable, "-c", _PROGRAM, engine_host, "plain", running], b"echo $((6 * 7))\n")
    assert (found.returncode, found.stdout) == (0, b"42\n")


def test_a_container_that_ends_ends_the_command(engine: Engine, running: str, command: Callable[..., list[str]]) -> None:
    """A command does not outlast its container."""
    with subprocess.Popen(command("sleep", "300"), cwd=_ROOT, stdin=subprocess.DEVNULL) as child:
        time.sleep(1.5)
        engine.kill(running, "SIGKILL")
        assert child.wait(20) == 137


def test_a_container_that_does_not_run(engine: Engine, make: Callable[..., str]) -> None:
    """One that has not started cannot be entered."""
    with pytest.raises(NotFound, match="not running"):
        engine.enter(make("true"), ["true"], terminal=False)


def pty_size(terminal: int, *, lines: int, columns: int) -> None:
    """Give a terminal a size."""
    termios.tcsetwinsize(terminal, (lines, columns))


def read_until(terminal: int, wanted: bytes, timeout_s: float = 20.0) -> bytes:
    """Read a terminal until it has shown something."""
    seen, until = b"", time.monotonic() + timeout_s
    while wanted not in seen and time.monotonic() < until:
        try:
            seen += os.read(terminal, 4096)
        except OSError:
            break
    return seen
