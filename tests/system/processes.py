"""Processes and ports of this machine as a system test sees them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def free_ports(count: int) -> list[int]:
    """Return `count` different ports of 127.0.0.1 that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def eventually(probe: Callable[[], T | None], *, timeout: float, what: str, every: float = 0.2) -> T:
    """Return the first truthy answer of `probe`, asked every `every` seconds; TimeoutError when `timeout` seconds brought none."""
    deadline = time.monotonic() + timeout
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s; the last answer was {answer!r}")
        time.sleep(every)
    return answer


def alive(pid: int) -> bool:
    """Tell whether process `pid` exists and is no zombie."""
    return _stat(pid)[0] not in "ZX"


def descendants(pid: int) -> list[int]:
    """Return the living processes below `pid` (children, their children, …), whatever their session."""
    parents = {int(entry.name): _stat(int(entry.name))[1] for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = [pid]
    for one in found:
        found.extend(child for child, parent in parents.items() if parent == one)
    return [one for one in found[1:] if alive(one)]


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep `count` cores busy."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def _stat(pid: int) -> tuple[str, int]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return "X", -1
    state, parent = text.rpartition(")")[2].split()[:2]
    return state, int(parent)
