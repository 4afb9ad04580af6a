"""A ground that this host and the engine share.

Two folders for each attempt: one of control files that no container ever sees, and inside
it ``dla/``, which is the container's ``/dla``. Mates are processes of this host.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import airflow_dla
from airflow_dla.errors import LaunchRefused, NotReady
from airflow_dla.runtime.command import AGENTS_DIR, FOLDERS, JOB_DIR, needs_mate
from airflow_dla.runtime.contract import Launch
from airflow_dla.runtime.detached import is_locked, lives, locked, read_keeper, spawn
from airflow_dla.runtime.docker.ground import SECRETS, Mount, staged
from airflow_dla.runtime.facts import Staged, Stop
from airflow_dla.runtime.files import attempts_in, folder_of, json_lines, read_json, write_once, write_whole
from airflow_dla.runtime.processes import signal_if
from airflow_dla.specs import ArtifactRef, ExitReason, Grant, JobFile

#: A submit waits so long for a mate that may be quick.
_QUICK_S: Final = 0.4
_LOOK_S: Final = 0.01
#: Jobs whose files are not read again at each look.
_REMEMBERED: Final = 2048


class SharedGround:
    """A folder of this host that the engine can mount.

    Parameters
    ----------
    root : Path
        On a local disk; one folder for each attempt is made below it.
    local : callable
        Digest of an artifact → its folder of plain files on this host, or None where the store has none.
    store_options : mapping, optional
        What the artifact store needs besides its URL; handed to mates through a pipe.
    python : str
        Interpreter of mates.
    memory : Path
        A folder in memory, for secrets.
    publishes : bool
        Whether outputs and checkpoints go to the store; else everything stays in the attempt's folder.
    """

    def __init__(
        self,
        root: Path,
        *,
        local: Callable[[str], Path | None] = lambda _digest: None,
        store_options: Mapping[str, Any] | None = None,
        python: str = sys.executable,
        memory: Path = Path("/dev/shm"),  # noqa: S108 - in memory is the point; the folders below are private
        publishes: bool = True,
    ) -> None:
        self.root = root.absolute()
        self._local = local
        self._store_options = dict(store_options or {})
        self._python = python
        self._publishes = publishes
        self._memory = memory / f"dla-{os.getuid()}"
        self._jobs: dict[str, tuple[int, JobFile]] = {}

    @property
    def protected(self) -> tuple[str, ...]:
        """Return the folders of other jobs, and of secrets."""
        return (str(self.root), str(self._memory))

    def resolve(self, folder: str) -> str:
        """Follow symbolic links: the engine is on this host."""
        return os.path.realpath(folder)

    # --- launching ---

    @contextlib.contextmanager
    def claimed(self, attempt: str) -> Iterator[bool]:
        """Hold the lock of the attempt's ``job.json``."""
        path = self._made(attempt) / "launch.lock"
        path.touch(mode=0o600)
        with locked(path) as lock:
            yield lock is not None

    def prepare(self, launch: Launch, owner: tuple[int, int]) -> Sequence[Mount]:
        """Make the folders, mount what lies on this host already, and have a mate fetch the rest."""
        attempt, job = launch.job.attempt, launch.job
        folder = self._made(attempt)
        mounted = self._mounted(job)
        if not (folder / "job.json").exists():
            self._lay_out(folder, job, owner)
        if _has_mate(job, mounted):
            self._fetch(folder, job, mounted, owner)
        return [
            _bind(folder / "dla", JOB_DIR),
            _bind(Path(airflow_dla.__file__).parent / "agents", AGENTS_DIR, read_only=True),
            *(_bind(path, f"{JOB_DIR}/in/{name}", read_only=True) for name, path in mounted.items()),
        ]

    def hand_over(self, attempt: str, secrets: Mapping[str, str], owner: tuple[int, int]) -> Mount:
        """Write each secret into a file of its own below ``/dev/shm``, for the container's user alone."""
        folder = self._memory / attempt
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name, value in secrets.items():
                path = folder / name
                path.unlink(missing_ok=True)
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w", encoding="utf-8") as file:
                    file.write(value)
                _give(path, owner)
            _give(folder, owner)
        except OSError as error:
            raise LaunchRefused(
                f"secrets of {attempt} cannot be put into memory at {folder}: {error.strerror}; an image with a Python needs no such files"
            ) from error
        return _bind(folder, SECRETS, read_only=True)

    def began(self, attempt: str, container: str) -> None:
        """Write ``container.json``; the mate finds the container's control groups by it."""
        write_once(self._folder(attempt) / "container.json", {"id": container, "at": self.now()})

    def age_s(self, attempt: str) -> float | None:
        """Return the seconds since `began`."""
        found = read_json(self._folder(attempt) / "container.json")
        return None if found is None else self.now() - float(found["at"])

    # --- following ---

    def job(self, attempt: str) -> JobFile | None:
        """Read ``job.json``, and the grant that came after it."""
        try:
            stamp = (self._folder(attempt) / "grant.json").stat().st_mtime_ns
        except FileNotFoundError:
            stamp = 0
        known = self._jobs.get(attempt)
        if known is None or known[0] != stamp:
            job = _job(self._folder(attempt))
            if job is None:
                return None
            known = self._jobs[attempt] = (stamp, job)
            while len(self._jobs) > _REMEMBERED:
                self._jobs.pop(next(iter(self._jobs)), None)
        return known[1]

    def resized(self, attempt: str, grant: Grant) -> None:
        """Write the grant for us, and once more where the job can read it."""
        folder = self._folder(attempt)
        write_whole(folder / "grant.json", grant.to_mapping())
        write_whole(folder / "dla" / "grant.json", grant.to_mapping())

    def stop(self, attempt: str) -> Stop | None:
        """Read ``stop.json``; one of an earlier boot of this host is long past."""
        found = read_json(self._folder(attempt) / "stop.json")
        if found is None:
            return None
        stop = Stop.from_mapping(found)
        return replace(stop, at=min(stop.at, self.now()))

    def mark_stop(self, attempt: str, reason: ExitReason) -> Stop:
        """Write ``stop.json`` unless it is there."""
        write_once(self._made(attempt) / "stop.json", Stop(reason, self.now()).to_mapping())
        found = self.stop(attempt)
        assert found is not None
        return found

    def now(self) -> float:
        """Return the seconds since this host booted: nobody sets that clock."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def said(self, attempt: str) -> tuple[Mapping[str, Any], ...]:
        """Read ``metrics.jsonl``, which the job itself could have written: what is no line of ours is passed over."""
        return tuple(_lines(self._folder(attempt) / "dla" / "metrics.jsonl"))

    def staged(self, attempt: str) -> Staged | None:
        """Read the error in ``fetched.json``, or ``published.json``: of what was never fetched nothing is published."""
        folder = self._folder(attempt)
        return staged(lambda name: read_json(folder / name))

    def finish(self, attempt: str, *, succeeded: bool, hard: bool) -> Staged | None:
        """Tell the mate that the work has ended, and see that there is one until it is done."""
        folder, job = self._folder(attempt), self.job(attempt)
        shutil.rmtree(self._memory / attempt, ignore_errors=True)
        if job is None:
            return Staged()
        if not (folder / "ended.json").exists():
            write_once(folder / "ended.json", {"succeeded": succeeded, "hard": hard})
            self._wake_mate(folder)
        found = self.staged(attempt)
        mounted = self._mounted(job)
        # Where somebody removed the folder, there is nothing that could be published.
        if found is None and not (_has_mate(job, mounted) and (folder / "dla").is_dir()):
            return Staged()
        if found is None:
            self._ensure_mate(folder, mounted, owner=_owner(folder / "dla"))
        return found

    def launched(self) -> set[str]:
        """List the folders."""
        return {path.name for path in attempts_in(self.root)}

    def old(self, age_s: float) -> set[str]:
        """List the folders that were last changed before."""
        limit = time.time() - age_s
        return {path.name for path in attempts_in(self.root) if path.stat().st_mtime < limit}

    def clear(self, attempt: str) -> None:
        """Remove both folders and what is left of secrets, unless a mate still works there."""
        folder = self._folder(attempt)
        if not is_locked(folder):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self._memory / attempt, ignore_errors=True)

    def log(self, attempt: str) -> Path:
        """Return ``ROOT/ATTEMPT/log``."""
        return self._folder(attempt) / "log"

    # --- inside ---

    def _folder(self, attempt: str) -> Path:
        return folder_of(attempt, self.root)

    def _made(self, attempt: str) -> Path:
        folder = self._folder(attempt)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def _mounted(self, job: JobFile) -> dict[str, Path]:
        """Return the inputs that lie on this host as plain files."""
        refs = {name: ref for name, ref in job.inputs.items() if isinstance(ref, ArtifactRef)}
        found = {name: self._local(ref.digest) for name, ref in refs.items()}
        return {name: path for name, path in found.items() if path is not None}

    def _lay_out(self, folder: Path, job: JobFile, owner: tuple[int, int]) -> None:
        """Make what the container sees; ``job.json`` beside it comes last and says that all is there."""
        inside = folder / "dla"
        for path in (inside, *(inside / name for name in FOLDERS), *(inside / "out" / name for name in job.outputs)):
            path.mkdir(exist_ok=True, mode=0o755)
            _give(path, owner)
        write_whole(inside / "job.json", job.to_mapping())
        _give(inside / "job.json", owner)
        write_whole(folder / "job.json", job.to_mapping())

    def _fetch(self, folder: Path, job: JobFile, mounted: Mapping[str, Path], owner: tuple[int, int]) -> None:
        """See that a mate fetches; an error of fetching is the attempt's end, and not ours to raise."""
        until = time.monotonic() + _QUICK_S
        while not (folder / "fetched.json").exists():
            self._ensure_mate(folder, mounted, owner)
            if time.monotonic() > until:
                raise NotReady(f"fetching {', '.join([*(job.inputs.keys() - mounted.keys()), 'code'])}")
            time.sleep(_LOOK_S)

    def _wake_mate(self, folder: Path) -> None:
        mate = read_keeper(folder / "mate.json")
        if mate is not None:
            signal_if(mate.pid, signal.SIGHUP, lambda _: lives(mate))

    def _ensure_mate(self, folder: Path, mounted: Mapping[str, Path], owner: tuple[int, int]) -> None:
        keeper = read_keeper(folder / "mate.json")
        if keeper is not None and lives(keeper):
            return
        with locked(folder) as lock:
            if lock is None:
                return  # it has just been started
            argv = [self._python, str(Path(airflow_dla.__file__).parent / "agents"), "beside", str(folder), str(lock)]
            how = {"store": self._store_options, "publishes": self._publishes, "watches_disk": True}
            spawn(argv, lock, folder / "mate.log", {**how, "mounted": sorted(mounted), "owner": list(owner)})


def _has_mate(job: JobFile, mounted: Collection[str]) -> bool:
    """Whether a mate goes with a job: also one that only looks, at its GPUs, or how much of a disk it takes."""
    return needs_mate(job, mounted) or bool(job.grant.gpu_ids) or "disk" in job.grant.amounts


def _job(folder: Path) -> JobFile | None:
    found, grant = read_json(folder / "job.json"), read_json(folder / "grant.json")
    return None if found is None else JobFile.from_mapping({**found, "grant": found["grant"] if grant is None else grant})


def _bind(source: Path, target: str, *, read_only: bool = False) -> Mount:
    return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": read_only}


def _owner(path: Path) -> tuple[int, int]:
    line = path.stat()
    return line.st_uid, line.st_gid


def _give(path: Path, owner: tuple[int, int]) -> None:
    """Make a file or folder the container user's own."""
    if _owner(path) == owner:
        return
    try:
        os.chown(path, *owner, follow_symlinks=False)
    except PermissionError as error:
        raise LaunchRefused(
            f"{path} must belong to user {owner[0]}:{owner[1]}, as whom the place runs jobs, but this process is user {os.getuid()} and "
            f"may not give it away; let the place run them as {os.getuid()}:{os.getgid()} (its `user`), or run workers as root"
        ) from error


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Read JSON lines of a file that the job owns: it may be no file, or hold anything."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        yield from json_lines(file)
