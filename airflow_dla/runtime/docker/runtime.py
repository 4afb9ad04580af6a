"""Attempts as containers of one Docker engine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from airflow_dla.errors import JobLost, LaunchRefused, NotReady
from airflow_dla.runtime import command
from airflow_dla.runtime.conclude import GONE, TAIL, conclude
from airflow_dla.runtime.contract import Handle, Launch, LogSlice, Status
from airflow_dla.runtime.docker import body, policy
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.facts import Image
from airflow_dla.runtime.docker.ground import Ground, Mount
from airflow_dla.runtime.docker.interpreters import Interpreters
from airflow_dla.runtime.docker.listings import Summary
from airflow_dla.runtime.docker.logs import Logs
from airflow_dla.runtime.facts import Staged, Stop
from airflow_dla.runtime.policy import image_of
from airflow_dla.runtime.readings import readings
from airflow_dla.specs import Exit, ExitReason, Grant, JobFile, PlaceSpec
from airflow_dla.specs.places import NOBODY, user_ids
from airflow_dla.specs.resources import GIB

#: Followers of one process share a look at the engine that is no older than this, seconds; just after a launch a newer one.
_FRESH_S: Final = 0.15
_NEWER_S: Final = 0.015
_JUST_S: Final = 1.0
_SLICE: Final = 1 << 20
#: Ends that one process remembers.
_ENDS: Final = 1024


@dataclass(frozen=True, slots=True)
class _Ended:
    """What the engine says of a container that has ended, and will say for ever; read once."""

    found: Summary
    state: Mapping[str, Any]
    tail: bytes
    metrics: Mapping[str, float]


class DockerRuntime:
    """Runs attempts in containers of one engine.

    The engine remembers how each container ended, so nothing of ours has to live while it
    runs; a mate beside it (see `ground`) only moves files.

    Parameters
    ----------
    engine : `Engine`
    place : `PlaceSpec`
        What the place allows, and its defaults.
    node : str
        The engine's node in the ledger.
    workspace : str
        Tells this workspace's containers from others'.
    ground : `Ground`
        Where the jobs' files lie.
    """

    def __init__(self, engine: Engine, place: PlaceSpec, *, node: str, workspace: str, ground: Ground) -> None:
        self.engine = engine
        self.place = place
        self.node = node
        self._workspace = workspace
        self._ground = ground
        self._interpreters = Interpreters(engine)
        self._over: dict[str, _Ended] = {}
        self._told: set[str] = set()
        self._logs = Logs(engine, ground.log)
        self._changed_at = 0.0
        self._awaited: set[str] = set()

    # --- the contract ---

    def plan(self, launch: Launch) -> Mapping[str, Any]:
        """Return the request that would create the container, but for the mounts of the job's own files."""
        self._refuse(launch)
        name = image_of(launch, self.place)
        image = self.engine.image(name) or Image(id=name)
        python = "python3" if command.needs_runner(launch.job, launch.secrets) else None
        return {"limits": dict(launch.job.grant.amounts), "container": self._request(launch, image, python, ())}

    def submit(self, launch: Launch) -> Handle:
        """Create and start an attempt's container, once, whoever asks how often.

        Raises
        ------
        NotReady
            While the image is pulled, inputs are fetched, or another process launches it.
        LaunchRefused
            If the place's policy forbids it, or the engine cannot run the image.
        JobLost
            If the engine's host cannot run it: its disk is full, it cannot hand out its GPUs.
        """
        attempt, name = launch.job.attempt, body.name(self._workspace, launch.job.attempt)
        with self._ground.claimed(attempt) as claimed:
            if not claimed:
                raise NotReady("another process is launching it")
            if self._ground.stop(attempt) is None and self._ground.age_s(attempt) is None:
                self._try(launch, name)
        return {"node": self.node, "container": name, **(self._address(name) if launch.job.part is not None else {})}

    def status(self, attempt: str) -> Status:
        """Return what is known of an attempt; one whose time or grace is over is ended here."""
        stop, found = self._ground.stop(attempt), self._find(attempt)
        if found is None or found.state == "created":
            return self._unstarted(attempt, stop) if self._ground.age_s(attempt) is None else self._gone(attempt, stop)
        job = self._ground.job(attempt)
        if job is None:
            return self._unknown(found, stop)
        if found.alive:
            self._press(found, job, stop)
            return Status(alive=True, note=f"{self.place.name}: {body.limits_text(job.grant)}")
        return self._ended(found, job, stop)

    def logs(self, attempt: str, offset: int, *, limit: int = _SLICE) -> LogSlice:
        """Return the log from a byte offset: standard output and error in the order in which the engine got them."""
        return self._logs.read(attempt, self._find(attempt), offset, limit)

    def cancel(self, attempt: str, reason: ExitReason) -> None:
        """Ask an attempt to stop; the first reason counts. One that never started never will."""
        found = self._find(attempt, fresh=True)
        if found is not None and not found.alive and found.state != "created":
            return
        stop, job = self._ground.mark_stop(attempt, reason), self._ground.job(attempt)
        if found is None or found.state == "created":
            self._ground.finish(attempt, succeeded=False, hard=True)
            if found is not None:
                self.engine.remove(found.id)
        elif job is None:
            self.engine.kill(found.id, "SIGKILL")  # nobody knows what it is, nor how long it may take
        else:
            self._press(found, job, stop)

    def resize(self, attempt: str, grant: Grant) -> bool:
        """Change CPUs and memory; all of it or nothing. Memory that is in use is not taken away."""
        found, job = self._find(attempt, fresh=True), self._ground.job(attempt)
        if found is None or not found.alive or job is None or not body.can_resize(job.grant, grant):
            return False
        facts, memory = self.engine.facts(), grant.amounts.get("memory", 0.0)
        if memory < job.grant.amounts.get("memory", 0.0) and self.engine.memory_held(found.id) > memory * GIB:
            return False
        if self.engine.update(found.id, body.update(grant, facts)) is not None:
            self.engine.update(found.id, body.update(job.grant, facts))
            return False
        self._ground.resized(attempt, grant)
        return True

    def jobs(self) -> dict[str, bool]:
        """Return every attempt that has a container or files here, and whether its container runs."""
        there = self.engine.listing(self._workspace)
        return {attempt: attempt in there and there[attempt].alive for attempt in {*there, *self._ground.launched()}}

    # --- outside the contract ---

    def await_end(self, attempt: str, timeout_s: float) -> None:
        """Return as soon as an attempt's container has ended, or after so many seconds; then it is asked for alone."""
        self.engine.await_end(body.name(self._workspace, attempt), timeout_s)
        self._awaited.add(attempt)

    def enter(self, attempt: str, command: Sequence[str], *, terminal: bool) -> int:
        """Run a command in an attempt's container, by default a shell of its image."""
        return self.engine.enter(body.name(self._workspace, attempt), command, terminal=terminal)

    @property
    def keep_s(self) -> float:
        """Seconds that a failed container is kept for those who want to look into it."""
        return self.place.keep_s

    def kept(self) -> dict[str, float]:
        """Return the attempts whose ended containers are still there, and when each was created."""
        there = self.engine.listing(self._workspace)
        return {attempt: float(found.created) for attempt, found in there.items() if not found.alive}

    def collect(self, attempt: str) -> None:
        """Remove an ended container, keeping its log; what runs stays."""
        found = self._find(attempt, fresh=True)
        if found is not None and not found.alive:
            self._ground.finish(attempt, succeeded=False, hard=False)  # its end may be one that nobody asked about
            self._logs.keep(attempt, found)
            self.engine.remove(found.id)
            self._over.pop(attempt, None)

    def forget(self, *, older_than_s: float) -> tuple[str, ...]:
        """Remove the files of attempts that ended so many seconds ago and have no container any more; return their labels."""
        there = self.engine.listing(self._workspace)
        gone = tuple(attempt for attempt in self._ground.old(older_than_s) if attempt not in there)
        for attempt in gone:
            self._ground.clear(attempt)
        return gone

    # --- launching ---

    def _try(self, launch: Launch, name: str) -> None:
        try:
            self._launch(launch, name)
        except (LaunchRefused, JobLost):
            self._ground.finish(launch.job.attempt, succeeded=False, hard=False)  # nobody asks about it again
            raise

    def _launch(self, launch: Launch, name: str) -> None:
        attempt = launch.job.attempt
        # Without files nobody launched it from here; if somebody did elsewhere the engine will say so, since names are unique.
        found = self.engine.inspect(name) if self._ground.job(attempt) is not None else None
        if found is not None and found["State"]["Status"] != "created":
            self._ground.began(attempt, found["Id"])  # who started it died before it could say so
            return
        image = self._image(launch)
        python = self._python(launch, image)
        container = found["Id"] if found is not None else self._create(launch, image, python, name)
        if container is not None:
            self._start(launch, container, None if python is None else json.dumps({"env": dict(launch.secrets)}).encode())
            self._ground.began(attempt, container)
            self._changed_at = time.monotonic()

    def _start(self, launch: Launch, container: str, stdin: bytes | None) -> None:
        """Start the container; what an engine says when it cannot is for those who know engines."""
        try:
            self.engine.start(container, stdin=stdin)
        except LaunchRefused as refused:
            image, state = image_of(launch, self.place), {"Error": str(refused)}
            explained = conclude(launch.job, state, stop=None, hard=False, said=(), tail=b"", metrics={}, staged=None, image=image)
            error = JobLost if explained.reason is ExitReason.LOST else LaunchRefused
            raise error(explained.message) from refused

    def _create(self, launch: Launch, image: Image, python: str | None, name: str) -> str | None:
        """Create the container; None when its inputs could not be fetched: that is its end, which `status` tells."""
        mounts = list(self._ground.prepare(launch, self._owner()))
        staged = self._ground.staged(launch.job.attempt)
        if staged is not None and staged.error is not None:
            return None
        if launch.secrets and python is None:
            mounts.append(self._ground.hand_over(launch.job.attempt, launch.secrets, self._owner()))
        request = self._request(launch, image, python, mounts)
        try:
            return self.engine.create(name, request)
        except LaunchRefused:
            if "StorageOpt" not in request["HostConfig"]:
                raise
        # Over XFS only this answer tells that the file system counts no quotas.
        return self.engine.create(name, body.without_disk_limit(request))

    def _request(self, launch: Launch, image: Image, python: str | None, mounts: Sequence[Mount]) -> dict[str, Any]:
        facts = self.engine.facts()
        return body.body(
            launch,
            self.place,
            workspace=self._workspace,
            image=image,
            facts=facts,
            argv=command.argv(launch.job, python, runner=python is not None, cpus=facts.cpus),
            mounts=mounts,
            user="{}:{}".format(*self._owner()),
            stdin=python is not None,
        )

    def _refuse(self, launch: Launch) -> None:
        policy.refuse(launch, self.place, resolve=self._ground.resolve, protected=self._ground.protected)

    def _image(self, launch: Launch) -> Image:
        self._refuse(launch)
        name = image_of(launch, self.place)
        self.engine.pull(name)  # says that it is not ready, until it is
        found = self.engine.image(name)
        if found is None:
            raise LaunchRefused(f"image {name!r} was pulled to place {self.place.name!r} and is gone again; is somebody pruning images?")
        return found

    def _python(self, launch: Launch, image: Image) -> str | None:
        """Return the Python that runs our runner in the container; None where the command runs by itself."""
        if not command.needs_runner(launch.job, launch.secrets):
            return None
        found = self._interpreters.find(image)
        if found is None:
            command.refuse_without_python(launch.job, image_of(launch, self.place))
        return found

    def _owner(self) -> tuple[int, int]:
        own = f"{os.getuid()}:{os.getgid()}" if os.getuid() else NOBODY
        return user_ids(self.place.user or own)

    # --- following ---

    def _address(self, name: str) -> dict[str, str]:
        """Return where other members of a gang reach a container: none where it has no network."""
        document = self.engine.inspect(name)
        networks = {} if document is None else document["NetworkSettings"]["Networks"] or {}
        if "host" in networks:
            return {"address": "127.0.0.1"}
        return next(({"address": str(found["IPAddress"])} for found in networks.values() if found.get("IPAddress")), {})

    def _find(self, attempt: str, *, fresh: bool = False) -> Summary | None:
        """Find an attempt's container: most run, and one list of those is enough for all who ask."""
        since = time.monotonic() - self._changed_at
        age = 0.0 if fresh else min(since, _NEWER_S if since < _JUST_S else _FRESH_S)
        if attempt in self._over and not fresh:
            return self._over[attempt].found
        if attempt in self._awaited:
            self._awaited.discard(attempt)
            return self.engine.find(body.name(self._workspace, attempt))
        running = self.engine.listing(self._workspace, running=True, max_age_s=age)
        return running.get(attempt) or self.engine.find(body.name(self._workspace, attempt))

    def _unstarted(self, attempt: str, stop: Stop | None) -> Status:
        staged = self._ground.staged(attempt)
        if stop is not None:
            self._ground.finish(attempt, succeeded=False, hard=False)
            return Status(alive=False, exit=Exit(reason=stop.reason, message="stopped before it started"))
        if staged is not None and staged.error is not None and self._ground.age_s(attempt) is None:
            return Status(alive=False, exit=Exit(reason=ExitReason(staged.error[0]), message=staged.error[1]))
        return Status(alive=False)

    def _unknown(self, found: Summary, stop: Stop | None) -> Status:
        """Conclude on one whose files are gone, or on another host: only that it was stopped can be known."""
        if found.alive or stop is None:
            return Status(alive=found.alive)
        message = f"{stop.reason}: its container was killed, since its files are not on this host any more"
        return Status(alive=False, exit=Exit(reason=stop.reason, message=message))

    def _gone(self, attempt: str, stop: Stop | None) -> Status:
        """Conclude on one that began and has no container any more, unless it was collected."""
        if self._ground.log(attempt).exists():
            return Status(alive=False)
        staged = self._ground.finish(attempt, succeeded=False, hard=True)
        if staged is None:
            return Status(alive=True, note="its last checkpoint is kept")
        reason = ExitReason.LOST if stop is None else stop.reason
        return Status(alive=False, exit=Exit(reason=reason, message=GONE, peaks=staged.peaks))

    def _press(self, found: Summary, job: JobFile, stop: Stop | None) -> None:
        """End what has had its time: the stop signal once, the kill when its grace is over."""
        age = self._ground.age_s(job.attempt)
        if stop is None and job.run_timeout_s is not None and age is not None and age > job.run_timeout_s:
            stop = self._ground.mark_stop(job.attempt, ExitReason.TIMED_OUT)
        if stop is None:
            return
        if self._ground.now() - stop.at >= (job.grace_s if stop.grace_s is None else stop.grace_s):
            self.engine.kill(found.id, "SIGKILL")
        elif job.attempt not in self._told:
            self._told.add(job.attempt)
            self.engine.kill(found.id, "SIGTERM")

    def _ended(self, found: Summary, job: JobFile, stop: Stop | None) -> Status:
        """Conclude how it ended, as soon as what it left is published or kept."""
        if job.attempt not in self._over:
            self._over[job.attempt] = self._last_look(found, job)
            while len(self._over) > _ENDS:
                self._over.pop(next(iter(self._over)))
        last, said = self._over[job.attempt], self._ground.said(job.attempt)
        hard = stop is not None and last.state.get("ExitCode") == 137  # noqa: PLR2004 - 128 + SIGKILL

        def concluded(staged: Staged | None) -> Exit:
            return conclude(
                job, last.state, stop=stop, hard=hard, said=said, tail=last.tail, metrics=last.metrics, staged=staged,
                image=found.labels.get(body.IMAGE, ""),
            )  # fmt: skip

        staged = self._ground.finish(job.attempt, succeeded=concluded(None).succeeded, hard=hard)
        if staged is None:
            return Status(alive=True, note="its outputs are published")
        self._told.discard(job.attempt)
        return Status(alive=False, exit=concluded(staged))

    def _last_look(self, found: Summary, job: JobFile) -> _Ended:
        document = found.document or self.engine.inspect(found.id)
        state = {} if document is None else document["State"]
        alone = document is not None and command.AGENTS_DIR not in (document["Config"]["Cmd"] or ())
        tail = self.engine.tail(found.id, TAIL) if state.get("ExitCode") else b""
        metrics = readings(job.metrics if alone else {}, self._logs.whole(found))
        return _Ended(found=replace(found, document=None), state=state, tail=tail, metrics=metrics)
