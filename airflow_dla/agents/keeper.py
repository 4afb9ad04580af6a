"""The keeper: one small process per attempt that outlives whoever started it.

    python -m airflow_dla.agents.keeper JOBDIR [LOCK]

It holds a lock on the job's folder as long as it lives (``LOCK`` is the descriptor it
inherits it by), reads secrets as JSON from standard input, so that they are on no disk
and no command line, and writes ``keeper.json`` before anything is started. Then: limits,
inputs, the work as a child in a session of its own; it waits, watches, stops it on
``stop.json``; publishes; writes ``exit.json``. Nobody else can learn how a detached
process ended.
"""

from __future__ import annotations

import fcntl
import functools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Set

from . import daemon, limits, processes
from .checkpoints import CheckpointSaver
from .disk import DiskWatch
from .ending import Ending, conclude
from .environment import environment
from .gpus import GpuUsage, shares_a_gpu
from .protocol import JobError, JobFile, JobFolder, read_json, write_json
from .wake import Wake

_POLL_S = 0.2
_WATCH_S = 0.5


def main(arguments: Sequence[str]) -> int:
    """Keep an attempt; return the exit status of the starting process."""
    return daemon.start(arguments, "keeper.log", _keep)


def _keep(path: Path, handed: Mapping[str, Any]) -> None:
    folder = JobFolder(path)
    if folder.exit.exists() or folder.keeper.exists():
        return  # it ran before: an attempt starts once
    wake = Wake()
    job = JobFile.read(folder.job)
    Keeper(job, folder, handed, wake).keep()


class Keeper:
    """Keeps one attempt from its start to its ``exit.json``.

    Parameters
    ----------
    job : `JobFile`
    folder : `JobFolder`
    handed : mapping
        ``{"env": secrets by variable, "store": the store's options, "cgroups": whether to make any,
        "publishes": whether anything goes to the store}``.
    wake : `Wake`
    """

    def __init__(self, job: JobFile, folder: JobFolder, handed: Mapping[str, Any], wake: Wake) -> None:
        self._job = job
        self._folder = folder
        self._handed = handed
        self._publishes = bool(handed.get("publishes", True))
        self._wake = wake
        self._limits = limits.Limits()
        self._end = Ending(started_at=0.0)
        inputs = [f"in/{name}" for name in job.inputs]
        self._disk = DiskWatch(folder.path, job.amounts.get("disk"), str(folder.path), without=["log", *inputs])
        self._gpus = GpuUsage(job.gpu_ids, self._members if shares_a_gpu(job.gpu_ids, job.amounts) else None)
        self._opened: Any = None

    def keep(self) -> None:
        """Do all of it."""
        groups = limits.own_groups(_text("/proc/self/cgroup"), _text("/proc/self/mountinfo")) if self._handed.get("cgroups", True) else {}
        name = limits.group_name(self._folder.path)
        _clear_leftovers(name, self._folder, groups)
        self._limits = limits.set_limits(name, self._job.amounts, self._job.cpu_ids, groups)
        write_json(self._folder.cgroups, self._limits.to_mapping())
        processes.adopt_orphans()
        self._say_alive()
        outcome = self._outcome()
        limits.remove(self._limits.folders)
        write_json(self._folder.exit, outcome, durable=True)
        self._tidy(outcome)

    def _say_alive(self) -> None:
        write_json(self._folder.keeper, {**daemon.identity(), "limits": self._limits.text})

    def _outcome(self) -> Dict[str, Any]:
        """Run the attempt; return what ``exit.json`` says."""
        outputs: Dict[str, Any] = {}
        try:
            outputs = self._attempt()
        except JobError as error:
            self._end.failed(error.reason, str(error))
        except Exception as error:  # noqa: BLE001 - exit.json must say it: nobody reads a keeper's traceback
            self._end.failed("lost", f"the keeper failed: {type(error).__name__}: {error}")
            _leave_traceback(error)
        return conclude(self._job.resized(self._folder), self._folder, self._end, outputs)

    def _attempt(self) -> Dict[str, Any]:
        restore = self._job.restores
        if self._job.inputs or self._job.published or self._job.code or restore:
            self._beside(lambda: self._staging().fetch(restore=restore))
        if self._stopped():
            return {}
        saver = CheckpointSaver(self._folder, lambda folder: self._staging().save_checkpoint(folder))
        self._work(saver)
        outputs: Dict[str, Any] = {}
        try:
            if self._end.succeeded and self._job.published:
                outputs = self._beside(lambda: self._staging().publish()) or {}
        finally:
            if not self._end.succeeded or len(outputs) < len(self._job.published):
                saver.finish(hard=self._end.hard or (self._end.code or 0) < 0)
        return outputs

    def _staging(self) -> Any:
        """Open the store when it is first needed: its imports take longer than all the rest of a small job."""
        if self._opened is None:
            from .staging import Staging  # noqa: PLC0415

            self._opened = Staging(self._job, self._folder, self._handed.get("store") or {}, publishes=self._publishes)
        return self._opened

    def _beside(self, call: Callable[[], Any]) -> Any:
        """Call what may take long in a thread, while we look whether a stop is wanted."""
        return daemon.beside(call, self._stopped)

    def _stopped(self) -> bool:
        """Whether a stop is wanted; remembers why."""
        if self._end.stop is None:
            # Whoever cancels writes stop.json first: a signal before which none was written came from outside.
            terminated, wanted = self._wake.terminated, read_json(self._folder.stop)
            if wanted is not None:
                self._end.stop = str(wanted.get("reason", "stopped"))
            elif terminated:
                self._end.stop = "killed"
        return self._end.stop is not None

    # --- the work ---

    def _work(self, saver: CheckpointSaver) -> None:
        self._end.started_at = time.time()
        child = self._start()
        self._follow(child, saver)
        self._clear()
        self._end.gpus = self._gpus.peaks
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._end.cpu_s = usage.ru_utime + usage.ru_stime
        # A child counts as holding what we held when it was started: only more than that is its own.
        if usage.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
            self._end.see_memory(usage.ru_maxrss * 1024)
        self._end.oom_kills = limits.oom_kills(self._limits.folders)

    def _start(self) -> subprocess.Popen[bytes]:
        here = str(Path(__file__).resolve().parent)
        for path in (self._folder.code, self._folder.scratch):
            path.mkdir(exist_ok=True)
        with self._folder.log.open("ab+") as log:
            return subprocess.Popen(  # noqa: S603 - our own runner
                [sys.executable, here, "run", str(self._folder.path), str(os.getpid())],
                cwd=str(self._folder.code),
                env=environment(self._job.resized(self._folder), self._folder, os.environ, self._handed.get("env") or {}),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _follow(self, child: subprocess.Popen[bytes], saver: CheckpointSaver) -> None:
        """Wait for the work's end; end it when its time, its memory or somebody's patience is over."""
        deadline = None if self._job.run_timeout_s is None else time.monotonic() + self._job.run_timeout_s
        kill_at: Optional[float] = None
        watched_at = 0.0
        while self._reaped(child) is None:
            now = time.monotonic()
            if deadline is not None and now >= deadline and self._end.stop is None:
                self._end.stop, self._end.own_timeout = "timed_out", True
            if kill_at is None and self._stopped():
                processes.send_group(child.pid, signal.SIGTERM)
                kill_at = now + self._job.grace_s
            if kill_at is not None and now >= kill_at:
                self._end.hard = True
                processes.send_group(child.pid, signal.SIGKILL)
            if now - watched_at >= self._watch_every_s():
                watched_at = now
                self._watch(child)
            self._gpus.look()
            self._refuse_more(child, self._disk.look())
            saver.look()
            self._wake.wait(_next(now, deadline, kill_at))
        self._end.code = child.returncode

    def _reaped(self, child: subprocess.Popen[bytes]) -> Optional[int]:
        """Reap the work if it has ended, and the orphans that we adopted."""
        code = child.poll()
        _reap_others(child)
        return code

    def _watch_every_s(self) -> float:
        """Return how often to look: through all processes it costs milliseconds, well spent only where we guard the limit."""
        return _WATCH_S if self._limits.folders or self._limits.memory_bytes is not None else 4 * _WATCH_S

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        """See how much memory is held; end the work where only we guard its limit."""
        limit = self._memory_limit()
        if limit is None and self._limits.folders:
            self._end.see_memory(limits.memory_held(self._limits.folders))
            return
        below = processes.descendants(os.getpid())
        held = sum(line.rss_bytes for line in below.values())
        if limit is not None and held > limit:
            # Forked workers share pages, which the plain sum counts for each of them.
            held = processes.proportional_bytes(below)
        self._end.see_memory(held)
        if limit is not None and held > limit:
            self._end.over_memory = held
            self._end.hard = True
            processes.send_group(child.pid, signal.SIGKILL)

    def _refuse_more(self, child: subprocess.Popen[bytes], told: str) -> None:
        """End a job that has taken more disk than it was granted: at once, since it goes on taking."""
        if told:
            self._end.failed("user_error", told)
            self._end.hard = True
            processes.send_group(child.pid, signal.SIGKILL)

    def _memory_limit(self) -> Optional[int]:
        """Return the bytes that we must guard, None where a control group does; a resize changes them."""
        if self._limits.memory_bytes is None:
            return None
        return limits.in_bytes(self._job.resized(self._folder).amounts["memory"])

    def _clear(self) -> None:
        """End what the work left behind, however it detached itself."""
        processes.kill_all(self._members, _reap)
        _reap()

    def _members(self) -> Set[int]:
        return set(processes.descendants(os.getpid())) | limits.members(self._limits.folders)

    def _tidy(self, outcome: Mapping[str, Any]) -> None:
        """Remove what nobody needs any more: all but log, lines and the JSON files after a success."""
        if not self._publishes:
            return
        names = ["in", "tmp", *(("out", "code", "checkpoint", "checkpoints") if outcome["reason"] == "succeeded" else ())]
        for name in names:
            shutil.rmtree(self._folder.path / name, ignore_errors=True)


def _leave_traceback(error: BaseException) -> None:
    """Leave a traceback in ``keeper.log``."""
    traceback.print_exception(type(error), error, error.__traceback__)


def _next(now: float, deadline: Optional[float], kill_at: Optional[float]) -> float:
    times = [now + _POLL_S, *(at for at in (deadline, kill_at) if at is not None and at > now)]
    return min(times) - now


def _reap() -> None:
    """Take the exit status of every child that has ended."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _reap_others(child: subprocess.Popen[bytes]) -> None:
    """Reap adopted orphans, leaving the work itself to its `Popen`."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid == child.pid:
            return
        os.waitpid(found.si_pid, os.WNOHANG)


def _clear_leftovers(own: str, folder: JobFolder, groups: Mapping[str, Path]) -> None:
    """Remove the control groups of attempts whose keeper is dead."""
    for attempt, folders in limits.leftovers(own, dict(groups)).items():
        if not _is_kept(folder.path.parent / attempt):
            processes.kill_all(functools.partial(limits.members, folders), _reap, patience_s=1.0)
            limits.remove(folders)


def _is_kept(folder: Path) -> bool:
    try:
        descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
