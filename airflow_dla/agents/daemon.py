"""What keeper and mate have in common: a small process of its own that holds the lock of its folder.

Its starter hands it JSON through standard input and waits for the first process only; the
lock, inherited by the descriptor ``LOCK`` or taken here, is held until it dies, and the
kernel frees it whatever happens. So there is never a second one for the same folder. As the
first process of a container it has nobody to leave, and stays.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from . import processes
from .protocol import PROTOCOL


def start(arguments: Sequence[str], said: str, work: Callable[[Path, Mapping[str, Any]], None]) -> int:
    """Go on as a process of its own, if the folder's lock is to be had; return the status of the starting process.

    Parameters
    ----------
    arguments : sequence of str
        The folder and, where it is inherited, the descriptor of its lock.
    said : str
        File in the folder that takes what it prints.
    work : callable
        Gets the folder and what was handed over.
    """
    folder = Path(arguments[0])
    if os.getpid() != 1:
        # The starter waits for this process only: nobody is left with a zombie.
        if os.fork() > 0:
            return 0
        os.setsid()
    lock = int(arguments[1]) if len(arguments) > 1 else _locked(folder)
    if lock is not None:
        os.set_inheritable(lock, False)
        handed = json.load(sys.stdin)
        _detach(folder / said)
        work(folder, handed)
    os._exit(0)


def _locked(folder: Path) -> Optional[int]:
    """Take the lock of a folder; None when somebody else has it."""
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(5):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)  # somebody may only be looking
        else:
            return descriptor
    return None


def _detach(log: Path) -> None:
    """Let go of everything of the starter: streams, folder, terminal."""
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    said = os.open(str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, stream in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(source, stream)
    os.close(nothing)
    os.close(said)


def identity() -> Dict[str, Any]:
    """Return what names this process for ever, in the form of ``specs.KeeperFile``."""
    line = processes.stat(os.getpid())
    assert line is not None
    return {"pid": os.getpid(), "boot_id": processes.boot_id(), "start_ticks": line.start_ticks, "protocol": PROTOCOL}


def beside(call: Callable[[], Any], given_up: Callable[[], bool]) -> Any:
    """Call what may take long in a thread; return None when it is given up first."""
    found: List[Tuple[Any, Optional[BaseException]]] = []
    thread = threading.Thread(target=lambda: found.append(_tried(call)), daemon=True)
    thread.start()
    while thread.is_alive() and not given_up():
        thread.join(0.05)
    if not found:
        return None
    value, error = found[0]
    if error is not None:
        raise error
    return value


def _tried(call: Callable[[], Any]) -> Tuple[Any, Optional[BaseException]]:
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
        return None, error
