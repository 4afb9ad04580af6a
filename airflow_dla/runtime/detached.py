"""Processes that outlive whoever started them: one for each folder, held together by the folder's lock.

The starter takes the lock and the process inherits it, so that from the first moment
until its death nobody else can start a second one, and the kernel frees it whatever happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from airflow_dla.runtime.files import read_json
from airflow_dla.runtime.processes import is_alive
from airflow_dla.specs import KeeperFile

#: Variables that such a process gets of the starter's environment.
_ALLOWED: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "CONDA_PREFIX",
    "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


def spawn(argv: Sequence[str], lock: int, said: Path, handed: Mapping[str, Any]) -> None:
    """Start a program that frees itself of this process at once, and hand over what is on no disk and no command line.

    Parameters
    ----------
    argv : sequence of str
        Our own program; it forks, and its first process ends at once.
    lock : int
        Descriptor that it inherits.
    said : path
        What it prints is appended there.
    handed : mapping
        Read by it as JSON from standard input.
    """
    with said.open("ab") as file:
        process = subprocess.Popen(  # noqa: S603 - our own program, and a path that is checked
            list(argv), cwd="/", env=around(), stdin=subprocess.PIPE, stdout=file, stderr=file, pass_fds=(lock,), start_new_session=True
        )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(json.dumps(handed).encode())
    process.wait()


def around() -> dict[str, str]:
    """Return what of this process's environment goes on."""
    return {name: value for name, value in os.environ.items() if name in _ALLOWED or name.startswith("LC_")}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """Hold the lock of a file or folder; None when somebody else does. A process that inherited it holds it on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor if _taken(descriptor, fcntl.LOCK_EX) else None
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of a file or folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _taken(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_keeper(path: Path) -> KeeperFile | None:
    """Return who wrote a file of this kind; None when there is none."""
    found = read_json(path)
    return None if found is None else KeeperFile.from_mapping(found)


def lives(keeper: KeeperFile) -> bool:
    """Whether a keeper's process is still there."""
    return is_alive(keeper.pid, boot=keeper.boot_id, start_ticks=keeper.start_ticks)


def last_words(path: Path) -> str:
    """Return the last line that such a process printed."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        lines = []
    return lines[-1] if lines else "it said nothing"
