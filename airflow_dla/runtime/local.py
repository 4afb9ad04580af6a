"""Attempts as processes of this host, each kept by a small process of its own.

Everything of an attempt lies in one folder, ``ROOT/ATTEMPT``; `airflow_dla.specs.protocol`
names its files. The lock of that folder decides who may start: the submitter takes it
and its keeper inherits it, so that from the first moment until the keeper's death nobody
else can, and the kernel frees it whatever happens.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import airflow_dla
from airflow_dla.errors import JobLost, NotFound
from airflow_dla.runtime.beside import run_beside
from airflow_dla.runtime.contract import Handle, Launch, LogSlice, Status
from airflow_dla.runtime.detached import around, is_locked, last_words, lives, locked, read_keeper, spawn
from airflow_dla.runtime.files import attempts_in, folder_of, read_json, read_piece, write_once, write_whole
from airflow_dla.runtime.processes import has_mark, marked_with, members, signal_if
from airflow_dla.runtime.resizing import resize
from airflow_dla.specs import Exit, ExitReason, Grant, KeeperFile

_STARTING_S: Final = 10.0
_SWEEP_S: Final = 1.0
_KEEPER: Final = "keeper.json"


class LocalRuntime:
    """Runs attempts as processes of this host.

    Parameters
    ----------
    root : Path
        Folder of the attempts' folders; on a local disk.
    node : str
        Name of this host's node.
    store_options : mapping, optional
        What the artifact store needs besides its URL; handed to keepers through a pipe.
    python : str
        Interpreter of keepers and of ``python`` commands.
    cgroups : bool
        Whether limits may be put in force by control groups; without them CPUs are held
        by affinity and memory is watched.
    publishes : bool
        Whether outputs and checkpoints go to the store; else everything stays in the attempt's folder.
    """

    def __init__(
        self, root: Path, *, node: str, store_options: Mapping[str, Any] | None = None, python: str = sys.executable, cgroups: bool = True,
        publishes: bool = True,
    ) -> None:  # fmt: skip
        self.root = root.absolute()
        self.node = node
        self._store_options = dict(store_options or {})
        self._python = python
        self._cgroups = cgroups
        self._publishes = publishes

    # --- the contract ---

    def plan(self, launch: Launch) -> Mapping[str, Any]:
        """Return what `submit` would start: command line, names of variables, limits. No secret's value is in it."""
        job = launch.job
        return {
            "argv": self._argv("keep", self._folder(job.attempt)),
            "cwd": str(self._folder(job.attempt)),
            "env": sorted({*around(), *job.env, *launch.secrets}),
            "limits": dict(job.grant.amounts),
            "cpu_ids": list(job.grant.cpu_ids),
            "gpu_ids": list(job.grant.gpu_ids),
        }

    def submit(self, launch: Launch) -> Handle:
        """Start an attempt, once, whoever asks how often.

        Raises
        ------
        JobLost
            If its keeper could not start; says why.
        """
        folder = self._folder(launch.job.attempt)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = {"node": self.node, "folder": str(folder), "address": "127.0.0.1"}
        deadline = time.monotonic() + _STARTING_S
        while not _begun(folder) and time.monotonic() < deadline:
            with locked(folder) as lock:
                if lock is not None and not _begun(folder):
                    self._start(launch, folder, lock)
            if lock is None:
                time.sleep(0.01)  # another submitter, or its keeper, is at it
            elif not _started(folder, deadline):
                raise JobLost(f"attempt {launch.job.attempt}: its keeper ended while it started: {last_words(folder / 'keeper.log')}")
        return handle

    def status(self, attempt: str) -> Status:
        """Return what is known of an attempt; what a killed keeper left behind is ended here."""
        folder = self._folder(attempt)
        ended = _exit(folder)
        if ended is not None:
            return Status(alive=False, exit=ended)
        keeper = read_keeper(folder / _KEEPER)
        if keeper is None:
            return _unstarted(folder)
        if lives(keeper):
            return Status(alive=True, note=_note(folder, keeper))
        # It may have written its last word between our two looks.
        ended = _exit(folder)
        return Status(alive=ended is None and not _swept(folder), exit=ended)

    def logs(self, attempt: str, offset: int, *, limit: int = 1 << 20) -> LogSlice:
        """Return the log from a byte offset: both streams go into one file, which keeps their order and does not tell them apart."""
        data = read_piece(self._folder(attempt) / "log", offset, limit)
        return LogSlice(data, offset + len(data))

    def cancel(self, attempt: str, reason: ExitReason) -> None:
        """Ask an attempt to stop; the first reason counts. One that never started never will."""
        folder = self._folder(attempt)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (folder / "exit.json").exists():
            return
        write_once(folder / "stop.json", {"reason": reason.value})
        keeper = read_keeper(folder / _KEEPER)
        if keeper is not None and not signal_if(keeper.pid, signal.SIGTERM, lambda _: lives(keeper)):
            _swept(folder)

    def resize(self, attempt: str, grant: Grant) -> bool:
        """Change CPUs and memory, whatever guards them here; all of it or nothing."""
        folder = self._folder(attempt)
        keeper = read_keeper(folder / _KEEPER)
        return keeper is not None and lives(keeper) and resize(folder, keeper.pid, grant)

    def jobs(self) -> dict[str, bool]:
        """Return every attempt that has a folder here, and whether its keeper lives."""
        return {path.name: self._is_alive(path) for path in attempts_in(self.root)}

    # --- outside the contract ---

    def enter(self, attempt: str, command: Sequence[str], *, terminal: bool) -> int:
        """Run a command beside an attempt's work, the user's shell by default."""
        folder = self._folder(attempt)
        keeper = read_keeper(folder / _KEEPER)
        if keeper is None or not self._is_alive(folder):
            raise NotFound(f"attempt {attempt} does not run on {self.node}: a command can be run in it only while it does")
        return run_beside([*self._argv("enter", folder), *command], lambda: lives(keeper), terminal=terminal)

    def forget(self, *, older_than_s: float) -> tuple[str, ...]:
        """Remove the folders of attempts that ended so many seconds ago; return their labels."""
        limit = time.time() - older_than_s
        old = [path for path in attempts_in(self.root) if path.stat().st_mtime < limit]
        gone = [path for path in old if not self._is_alive(path) and _swept(path)]
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)
        return tuple(path.name for path in gone)

    # --- inside ---

    def _folder(self, attempt: str) -> Path:
        return folder_of(attempt, self.root)

    def _is_alive(self, folder: Path) -> bool:
        if (folder / "exit.json").exists():
            return False
        keeper = read_keeper(folder / _KEEPER)
        return is_locked(folder) if keeper is None else lives(keeper)

    def _argv(self, role: str, folder: Path) -> list[str]:
        agents = Path(airflow_dla.__file__).parent / "agents"
        return [self._python, str(agents), role, str(folder)]

    def _start(self, launch: Launch, folder: Path, lock: int) -> None:
        """Start the keeper, which frees itself of this process at once, and hand over the secrets."""
        write_whole(folder / "job.json", launch.job.to_mapping())
        handed = {"env": dict(launch.secrets), "store": self._store_options, "cgroups": self._cgroups, "publishes": self._publishes}
        spawn([*self._argv("keep", folder), str(lock)], lock, folder / "keeper.log", handed)


def _begun(folder: Path) -> bool:
    """Whether there is nothing to start: it runs, ran, or was cancelled before."""
    return any((folder / name).exists() for name in ("keeper.json", "exit.json", "stop.json"))


def _started(folder: Path, deadline: float) -> bool:
    """Wait until a keeper has said that it is there; False when it died instead."""
    while time.monotonic() < deadline:
        held = is_locked(folder)
        if _begun(folder):
            return True
        if not held:
            return False
        time.sleep(0.002)
    return True


def _exit(folder: Path) -> Exit | None:
    found = read_json(folder / "exit.json")
    return None if found is None else Exit.from_mapping(found)


def _note(folder: Path, keeper: KeeperFile) -> str:
    """Say what is in force: the limits of the start, and what was made of them."""
    resized = read_json(folder / "grant.json")
    return keeper.limits if resized is None else f"{keeper.limits}; resized since to {Grant.from_mapping(resized).text()}"


def _unstarted(folder: Path) -> Status:
    """Return the status of an attempt whose keeper has not said that it is there."""
    stopped = read_json(folder / "stop.json")
    if stopped is None or is_locked(folder):
        return Status(alive=is_locked(folder))
    return Status(alive=False, exit=Exit(reason=ExitReason(stopped["reason"]), message="stopped before it started"))


def _groups(folder: Path) -> Mapping[str, Any]:
    return read_json(folder / "cgroups.json") or {}


def _swept(folder: Path) -> bool:
    """End what a dead keeper's attempt left running; return whether nothing is left."""
    groups = _groups(folder).get("folders", [])
    mark = f"DLA_JOB_DIR={folder}".encode()
    deadline = time.monotonic() + _SWEEP_S
    while left := members(groups) | marked_with(mark):
        for pid in left:
            signal_if(pid, signal.SIGKILL, lambda pid: has_mark(pid, mark) or pid in members(groups))
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    for group in groups:
        with contextlib.suppress(OSError):
            Path(group).rmdir()
    return True
