"""Processes that use one ledger at once: run as a program, so that they share nothing but the database.

They keep an account of their own, apart from the ledger: a locked file of what is in
use, raised after a process was told that it holds a grant and lowered before it lets go.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from contracts.ledger import demand, first_come, job

from airflow_dla.ledger import Lease, Ledger, connect

_ACCOUNT: Final = struct.Struct("ii")  # in use now, most ever
_TESTS: Final = Path(__file__).parent.parent


def account(path: Path, change: int) -> tuple[int, int]:
    """Change what is in use and return it with the most there ever was."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        used, most = _ACCOUNT.unpack(os.pread(descriptor, _ACCOUNT.size, 0).ljust(_ACCOUNT.size, b"\0"))
        used += change
        most = max(most, used)
        os.pwrite(descriptor, _ACCOUNT.pack(used, most), 0)
    finally:
        os.close(descriptor)
    return used, most


def take_and_release(index: int, url: str, books: str, times: str) -> None:
    """Take a grant of one CPU and release it, so many times: every other time in one go."""
    ledger = connect(url)
    for turn in range(int(times)):
        id_ = f"{index}-{turn}"
        (_admitted if turn % 2 else _granted)(ledger, id_)
        account(Path(books), 1)
        time.sleep(0.001)
        account(Path(books), -1)
        ledger.release([id_])
    ledger.close()


def _granted(ledger: Ledger, id_: str) -> None:
    ledger.request(demand(id_))
    ledger.round(first_come, holder=id_, lease_s=60)
    while not isinstance(ledger.answer(id_), Lease):
        time.sleep(0.02)
        ledger.round(first_come, holder=id_, lease_s=60)


def _admitted(ledger: Ledger, id_: str) -> None:
    answers = ledger.admit([demand(id_)], first_come, holder=id_, lease_s=60)
    while not isinstance(answers[id_], Lease):
        time.sleep(0.02)
        answers = ledger.admit([], first_come, holder=id_, lease_s=60, waiting=[id_])


def open_attempt(_index: int, url: str, task: str) -> None:
    """Open a task's attempt and say its id."""
    ledger = connect(url)
    sys.stdout.write(f"{ledger.open_attempt(job(task)).id}\n")
    sys.stdout.flush()
    ledger.close()


def upgrade(_index: int, url: str) -> None:
    """Make the schema."""
    ledger = connect(url)
    ledger.upgrade()
    ledger.close()


_PARTS: Final[dict[str, Callable[..., None]]] = {"race": take_and_release, "open": open_attempt, "upgrade": upgrade}


def run(part: str, processes: int, *arguments: Any) -> str:
    """Let so many processes do a part at once, each given its index, and return what they said."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_TESTS), str(_TESTS.parent)])}
    command = [sys.executable, __file__, part, str(processes), *map(str, arguments)]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def _main(part: str, processes: str, *arguments: str) -> int:
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=_PARTS[part], args=(index, *arguments)) for index in range(int(processes))]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return max(abs(child.exitcode or 0) for child in children)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
