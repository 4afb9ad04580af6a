"""The ground of jobs on an engine that shares no folder with this host: volumes of the engine.

Nothing of an attempt lies on any of Airflow's hosts, so whichever reaches the engine can
follow it. Each attempt has a volume at ``/dla`` of its container, one with our runner, and a
container of ours beside it (see `mates`). What must be said once, whoever is first, is a
volume too (see `shelves`): a stop, the beginning, a claim to launch it. Times are those of
the engine's clock, which followers on several hosts share; who sets it back while a job
stops puts off its kill.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from airflow_dla.errors import LaunchRefused, NotReady, PlaceUnavailable
from airflow_dla.runtime.command import AGENTS_DIR, FOLDERS, JOB_DIR, needs_mate
from airflow_dla.runtime.contract import Launch
from airflow_dla.runtime.docker import body, kept_logs
from airflow_dla.runtime.docker.archives import Entry
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.ground import SECRETS, Mount, staged
from airflow_dla.runtime.docker.mates import CONTROL, Mates, package
from airflow_dla.runtime.docker.shelves import Shelves
from airflow_dla.runtime.facts import Staged, Stop
from airflow_dla.runtime.files import checked_label, json_lines
from airflow_dla.runtime.policy import image_of
from airflow_dla.specs import ExitReason, Grant, JobFile, PlaceSpec

#: A submit waits so long for a mate that may be quick, and looks so often.
_QUICK_S: Final = 0.4
_LOOK_S: Final = 0.05
#: A claim of somebody who has not been heard of for so long is void: a launch takes seconds.
_CLAIM_S: Final = 60.0
#: What the engine's time is known to.
_CLOSE_S: Final = 1.0
#: Another process may have resized a job so long ago without our knowing.
_GRANT_S: Final = 5.0
#: A mate that ended without a word is started so often again.
_AGAIN: Final = 3
_REMEMBERED: Final = 2048
_SECRETS_SIZE: Final = "1m"


class VolumeGround:
    """Volumes of one engine.

    Parameters
    ----------
    engine : `Engine`
    place : `PlaceSpec`
        Names the helper image.
    workspace : str
    logs : Path
        Folder of this host where the logs of removed containers are kept, for this host alone.
    store_options : mapping, optional
        What the artifact store needs besides its URL; handed to mates through standard input.
    store_folder : Path, optional
        Of a store in a folder of the engine's own host.
    """

    def __init__(
        self, engine: Engine, place: PlaceSpec, *, workspace: str, logs: Path, store_options: Mapping[str, Any] | None = None,
        store_folder: Path | None = None,
    ) -> None:  # fmt: skip
        self.workspace = workspace
        self.store_folder = store_folder
        self.place = place
        self._logs = logs.absolute()
        self._shelves = Shelves(engine, workspace)
        handed = {"store": dict(store_options or {})}
        self.engine = engine
        self._mates = Mates(engine, place, workspace=workspace, name=self._mate, handed=handed, store_folder=store_folder)
        self._who = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._launching: set[str] = set()
        self._jobs: dict[str, JobFile] = {}
        self._grants: dict[str, tuple[float, Grant | None]] = {}
        self._started: dict[str, int] = {}

    @property
    def protected(self) -> tuple[str, ...]:
        """Return no folder: nothing of ours lies in one."""
        return ()

    def resolve(self, folder: str) -> str:
        """Return a folder as it is: nobody here can follow links of the engine's host."""
        return folder

    # --- launching ---

    @contextlib.contextmanager
    def claimed(self, attempt: str) -> Iterator[bool]:
        """Make a volume that says who launches the attempt; removed when that is done."""
        claim = self._claim(attempt)
        try:
            yield claim is not None
        finally:
            if claim is not None:
                self._release(attempt, claim)

    def prepare(self, launch: Launch, owner: tuple[int, int]) -> Sequence[Mount]:
        """Make the volumes and put the job in; have a mate fetch what it needs."""
        attempt, job = launch.job.attempt, launch.job
        runs = needs_mate(job, ()) or bool(launch.secrets)
        if self.job(attempt) is None:
            self._lay_out(launch, owner, runs=runs)
        if runs:
            self._fetch(job)
        return [
            _volume(self._name(attempt), JOB_DIR),
            _volume(self._name(attempt, "agents"), AGENTS_DIR, read_only=True),
        ]

    def hand_over(self, attempt: str, secrets: Mapping[str, str], owner: tuple[int, int]) -> Mount:
        """Write each secret into a file of a volume in memory, which lives while the mate or the job has it mounted."""
        if self._mates.state(attempt) != "running":
            self._start(attempt)
            raise NotReady("the helper that holds its secrets starts")
        files = {name: value.encode() for name, value in secrets.items()}
        self.engine.put_files(self._mate(attempt), SECRETS, files, owner=owner)
        return _volume(self._name(attempt, "secrets"), SECRETS, read_only=True)

    def began(self, attempt: str, container: str) -> None:
        """Mark the beginning; the mate finds the container's control groups by its id."""
        self._shelves.make(self._name(attempt, "began"), attempt, "began", container=container)
        job = self.job(attempt)
        if job is not None and needs_mate(job, ()):
            self._mates.put(attempt, "container.json", {"id": container})

    def age_s(self, attempt: str) -> float | None:
        """Return the seconds since `began`, by the engine's clock."""
        found = self._shelves.of(attempt, "began")
        return max(0.0, self.now() - found[0].at) if found else None

    # --- following ---

    def job(self, attempt: str) -> JobFile | None:
        """Read ``job.json``, and the grant that came after it, from the container of ours."""
        if attempt not in self._jobs:
            found = self._mates.read_json(_checked(attempt), "job.json")
            if found is None:
                return None
            self._jobs[attempt] = JobFile.from_mapping(found)
            _forget_oldest(self._jobs)
        job, grant = self._jobs[attempt], self._grant(attempt)
        return job if grant is None else replace(job, grant=grant)

    def resized(self, attempt: str, grant: Grant) -> None:
        """Write the grant for us, and once more where the job can read it."""
        self._mates.put(attempt, "grant.json", grant.to_mapping())
        self._mates.put(attempt, "dla/grant.json", grant.to_mapping())
        self._grants[attempt] = (time.monotonic(), grant)

    def stop(self, attempt: str) -> Stop | None:
        """Return what the mark of a stop says."""
        found = self._shelves.of(attempt, "stop")
        return Stop(ExitReason(found[0].labels["dla.reason"]), at=self._past(found[0].at)) if found else None

    def mark_stop(self, attempt: str, reason: ExitReason) -> Stop:
        """Mark a stop unless there is one, and tell the mate."""
        made = self._shelves.make(self._name(attempt, "stop"), attempt, "stop", reason=reason.value)
        found = Stop(ExitReason(made.labels["dla.reason"]), at=self._past(made.at))
        self._mates.put(attempt, "stop.json", found.to_mapping())
        return found

    def now(self) -> float:
        """Return the engine's time."""
        return self._shelves.clock.now()

    def said(self, attempt: str) -> tuple[Mapping[str, Any], ...]:
        """Read ``metrics.jsonl``, which the job itself could have written: what is no line of ours is passed over."""
        return tuple(json_lines((self._mates.read(attempt, "dla/metrics.jsonl") or b"").splitlines()))

    def staged(self, attempt: str) -> Staged | None:
        """Read the error in ``fetched.json``, or ``published.json``."""
        return staged(functools.partial(self._mates.read_json, attempt))

    def finish(self, attempt: str, *, succeeded: bool, hard: bool) -> Staged | None:
        """Tell the mate that the work has ended, and see that there is one until it is done."""
        state = self._mates.state(_checked(attempt))
        if state is None:
            return Staged()
        if self._mates.read(attempt, "ended.json") is None:
            self._mates.put(attempt, "ended.json", {"succeeded": succeeded, "hard": hard})
            self._mates.wake(attempt)
        if state == "created":
            return Staged()  # it never fetched, so there is nothing to publish
        found = self.staged(attempt)
        if found is None and state != "running":
            return self._again(attempt)
        return found

    def launched(self) -> set[str]:
        """List what has volumes."""
        return {one.attempt for one in self._shelves.all(fresh=True).values() if one.kind != "claim"}

    def old(self, age_s: float) -> set[str]:
        """List what has only volumes that were made before."""
        limit, newest = self.now() - age_s, dict[str, float]()
        for one in self._shelves.all(fresh=True).values():
            newest[one.attempt] = max(newest.get(one.attempt, 0.0), one.at)
        return {attempt for attempt, at in newest.items() if at < limit}

    def clear(self, attempt: str) -> None:
        """Remove the container of ours, then the volumes and the log; the marks go last."""
        self._mates.remove(_checked(attempt))
        first = ("data", "agents", "secrets")
        for one in sorted(self._shelves.of(attempt), key=lambda one: one.kind not in first):
            if not self._shelves.remove(one.name):
                return  # the job's container has it still
        self._jobs.pop(attempt, None)
        self._started.pop(attempt, None)
        kept_logs.remove(self._log(attempt))

    def log(self, attempt: str) -> Path:
        """Return a file of this host, whose folder exists."""
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._log(attempt)

    # --- inside ---

    def _past(self, at: float) -> float:
        """Return the time of a mark, or now where somebody set the engine's clock back; what now is, is known to a second."""
        now = self.now()
        return at if at < now + _CLOSE_S else now

    def _log(self, attempt: str) -> Path:
        return self._logs / f"{_checked(attempt)}.log"

    def _name(self, attempt: str, kind: str = "") -> str:
        return "-".join([body.name(self.workspace, _checked(attempt)), *([kind] if kind else [])])

    def _mate(self, attempt: str) -> str:
        return self._name(attempt, "mate")

    def _claim(self, attempt: str) -> str | None:
        """Return the volume that makes us the one who launches; None while it is another's, or another thread's."""
        name = self._name(attempt, "claim")
        with self._lock:
            if attempt in self._launching:
                return None
            self._launching.add(attempt)
        mine = False
        try:
            mine = self._is_ours(name, attempt)
        finally:
            if not mine:
                self._launching.discard(attempt)
        return name if mine else None

    def _is_ours(self, name: str, attempt: str) -> bool:
        """Make a claim; one of an owner who is gone is replaced, and it is the container's name that then keeps two apart."""
        made = self._shelves.make(name, attempt, "claim", who=self._who)
        if made.labels.get("dla.who") != self._who and self.now() - made.at > _CLAIM_S:
            self._shelves.remove(name)
            made = self._shelves.make(name, attempt, "claim", who=self._who)
        return made.labels.get("dla.who") == self._who

    def _release(self, attempt: str, claim: str) -> None:
        """Remove a claim of ours; where the engine does not answer it stays ours, and is void after a while."""
        try:
            with contextlib.suppress(PlaceUnavailable):
                self._shelves.remove(claim)
        finally:
            self._launching.discard(attempt)

    def _lay_out(self, launch: Launch, owner: tuple[int, int], *, runs: bool) -> None:
        """Make volumes and container, and fill them: ``job.json`` comes last and says that all is there."""
        attempt, job = launch.job.attempt, launch.job
        image = self._mates.image(image_of(launch, self.place), runs=runs)
        mounts = [_volume(self._shelves.make(self._name(attempt), attempt, "data").name, f"{CONTROL}/dla")]
        mounts += [_volume(self._shelves.make(self._name(attempt, "agents"), attempt, "agents").name, AGENTS_DIR)]
        if launch.secrets:
            options = {"type": "tmpfs", "device": "tmpfs", "o": "size={},mode=0700,uid={},gid={}".format(_SECRETS_SIZE, *owner)}
            mounts += [_volume(self._shelves.make(self._name(attempt, "secrets"), attempt, "secrets", driver=options).name, SECRETS)]
        self._mates.make(attempt, image, mounts, owner, runs=runs)
        written = json.dumps(job.to_mapping()).encode()
        inside = [Entry(path=f"dla/{name}".rstrip("/"), mode=0o755, owner=owner) for name in ("", *FOLDERS)]
        inside += [Entry(path=f"dla/out/{name}", mode=0o755, owner=owner) for name in job.outputs]
        inside += [Entry(path="dla/job.json", data=written, mode=0o644, owner=owner)]
        files = [Entry(path=CONTROL.strip("/"), mode=0o700), *(_below(CONTROL, entry) for entry in inside)]
        last = Entry(path=f"{CONTROL}/job.json".strip("/"), data=written)
        self._mates.fill(attempt, [*files, *package(("agents",), AGENTS_DIR.removesuffix("/agents").strip("/"))], last, runs=runs)

    def _fetch(self, job: JobFile) -> None:
        """See that a mate fetches; an error of fetching is the attempt's end, and not ours to raise."""
        attempt, until = job.attempt, time.monotonic() + _QUICK_S
        while (said := self._mates.read_json(attempt, "fetched.json")) is None:
            if self._mates.state(attempt) != "running":
                self._start(attempt)
            if time.monotonic() > until:
                raise NotReady(f"fetching {', '.join([*job.inputs, 'code'])}")
            time.sleep(_LOOK_S)
        if said.get("error"):
            self.finish(attempt, succeeded=False, hard=False)

    def _start(self, attempt: str) -> None:
        """Start the mate, or again.

        Raises
        ------
        LaunchRefused
            If it ends each time without a word.
        """
        if self._started.get(attempt, 0) > _AGAIN:
            helper, said = self.place.helper, self._mates.last_words(attempt)
            raise LaunchRefused(
                f"the mate of {attempt} ended {_AGAIN} times before it was done; helper image {helper!r} of place {self.place.name!r} "
                f"needs Python 3.11 or later, fsspec and what speaks to the store; its last words: {said}"
            )
        self._started[attempt] = self._started.get(attempt, 0) + 1
        _forget_oldest(self._started)
        self._mates.start(attempt)

    def _again(self, attempt: str) -> Staged | None:
        try:
            self._start(attempt)
        except LaunchRefused as refused:
            return Staged(error=(ExitReason.LOST.value, str(refused)))
        return None

    def _grant(self, attempt: str) -> Grant | None:
        known = self._grants.get(attempt)
        if known is None or time.monotonic() - known[0] > _GRANT_S:
            found = self._mates.read_json(attempt, "grant.json")
            known = self._grants[attempt] = (time.monotonic(), None if found is None else Grant.from_mapping(found))
            _forget_oldest(self._grants)
        return known[1]


def _volume(name: str, target: str, *, read_only: bool = False) -> Mount:
    # An image may have files of its own there, which are not to be copied in.
    return {"Type": "volume", "Source": name, "Target": target, "ReadOnly": read_only, "VolumeOptions": {"NoCopy": True}}


def _below(folder: str, entry: Entry) -> Entry:
    return Entry(path=f"{folder.strip('/')}/{entry.path}", data=entry.data, mode=entry.mode, owner=entry.owner)


def _checked(attempt: str) -> str:
    return checked_label(attempt, "volumes")


def _forget_oldest(known: dict[str, Any]) -> None:
    while len(known) > _REMEMBERED:
        known.pop(next(iter(known)), None)
