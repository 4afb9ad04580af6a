"""An attempt that the ledger recorded, run once more: without a task, without a grant, publishing nothing."""

from __future__ import annotations

import tempfile
import time
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from airflow_dla.cli.jobs_logs import follow
from airflow_dla.cli.reach import Reach
from airflow_dla.control.launch import what_runs
from airflow_dla.control.lines import Said
from airflow_dla.errors import InvalidSpec, NotReady
from airflow_dla.hooks.docker import engine_of
from airflow_dla.hooks.settings import Settings
from airflow_dla.hooks.workspace import local_node, resolve_secret
from airflow_dla.ledger import Attempt
from airflow_dla.runtime import Enterable, Launch, Runtime
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.specs import Exit, ExitReason, Grant, JobFile, Node, PlaceSpec

_LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """An attempt that is run once more.

    Parameters
    ----------
    recorded : `Attempt`
        What the ledger knows.
    runtime : `Runtime`
        Of this rerun alone.
    launch : `Launch`
    folder : Path
        Where the job's files lie on this host.
    seen : str
        The same folder as the job sees it.
    done : callable
        Lets go of what the runtime holds of it; its files stay.
    """

    recorded: Attempt
    runtime: Runtime
    launch: Launch
    folder: Path
    seen: str
    done: Callable[[], None] = lambda: None

    @property
    def label(self) -> str:
        """Its name, as an attempt's."""
        return self.launch.job.attempt

    def start(self, launch: Launch, say: Callable[[str], None]) -> None:
        """Start it, or another job in its place; say what it waits for."""
        said = ""
        while True:
            try:
                self.runtime.submit(launch)
            except NotReady as progress:
                if str(progress) != said:
                    say(said := str(progress))
                time.sleep(_LOOK_S)
            else:
                return

    def ended(self) -> Exit | None:
        """Return how it ended; None while it runs."""
        status = self.runtime.status(self.label)
        if status.exit is None and not status.alive:
            return Exit(reason=ExitReason.LOST, message="its process disappeared: it was killed with its keeper")
        return status.exit

    def said(self) -> Iterator[Said]:
        """Yield what it writes, until it has ended."""
        return follow(self.runtime, self.label, self.launch.job.nonce, lambda: self.ended() is None)

    def stop(self) -> Exit:
        """See it end."""
        self.runtime.cancel(self.label, ExitReason.STOPPED)
        while (found := self.ended()) is None:
            time.sleep(_LOOK_S)
        return found

    def enter(self, *, terminal: bool) -> int:
        """Run a shell beside it."""
        assert isinstance(self.runtime, Enterable)
        return self.runtime.enter(self.label, (), terminal=terminal)


def prepared(args: Namespace, reach: Reach, say: Callable[[str], None]) -> Rerun:
    """Return a recorded attempt, ready to be run once more; say what will not be as it was.

    Raises
    ------
    NotFound, InvalidSpec
        If there is no such attempt, it never had a grant, or it cannot be run where it is asked for.
    """
    recorded = reach.attempt(args.job)
    if args.attempt is not None:
        recorded = reach.attempt(f"{recorded.job}.{args.attempt}")
    if recorded.grant is None:
        raise InvalidSpec(f"attempt {recorded.id} was never granted anything, so there is nothing to run again; see `jobs show`")
    if recorded.spec.distributed is not None:
        raise InvalidSpec(f"job {recorded.job} is spread over several processes, which a rerun does not start")
    place = _engine(reach.settings, recorded.grant) if args.in_image else None
    grant = grant_here(recorded.grant, _node(reach.settings, recorded.grant, place))
    for note in _notes(recorded, grant, with_secrets=args.with_secrets, in_image=args.in_image):
        say(f"note: {note}")
    secrets = {name: resolve_secret(where) for name, where in recorded.spec.agent.secrets.items()} if args.with_secrets else {}
    launch = what_runs(reach.workspace(), recorded, grant, secrets)
    launch = replace(launch, job=again_of(launch.job, dict(args.set)))
    folder = _fresh(args.folder)
    return _local(reach, recorded, launch, folder) if place is None else _contained(reach, place, recorded, launch, folder)


def _local(reach: Reach, recorded: Attempt, launch: Launch, root: Path) -> Rerun:
    settings, folder = reach.settings, root / launch.job.attempt
    runtime = LocalRuntime(root, node=settings.node, store_options=settings.store_options, publishes=False)
    return Rerun(recorded=recorded, runtime=runtime, launch=launch, folder=folder, seen=str(folder))


def _contained(reach: Reach, place: PlaceSpec, recorded: Attempt, launch: Launch, root: Path) -> Rerun:
    from airflow_dla.runtime.command import JOB_DIR  # noqa: PLC0415 - only where there is such a place
    from airflow_dla.runtime.docker.runtime import DockerRuntime  # noqa: PLC0415 - as above
    from airflow_dla.runtime.docker.shared_ground import SharedGround  # noqa: PLC0415 - as above

    settings = reach.settings
    ground = SharedGround(root, local=reach.store.folder, store_options=settings.store_options, publishes=False)
    engine = engine_of(place, settings.logins.get(place.name))
    # In a workspace of its own: no reaper of ours looks for a ledger's word on it.
    runtime = DockerRuntime(engine, place, node=settings.node_of(place), workspace=uuid.uuid4().hex, ground=ground)
    label = launch.job.attempt
    folder = root / label / "dla"
    return Rerun(recorded=recorded, runtime=runtime, launch=launch, folder=folder, seen=JOB_DIR, done=lambda: runtime.collect(label))


def _engine(settings: Settings, grant: Grant) -> PlaceSpec:
    """Return the Docker place where it ran, or the first there is."""
    places = sorted(settings.engines, key=lambda place: settings.node_of(place) != grant.node)
    if not places:
        raise InvalidSpec(f"--in-image: connection {settings.name!r} names no Docker place; leave it out, or add one to `places`")
    return places[0]


def _node(settings: Settings, grant: Grant, place: PlaceSpec | None) -> Node:
    """Return what of the GPUs there may be used."""
    if place is None:
        return local_node(settings)
    name = settings.node_of(place)
    return Node(name=name, gpu_ids=grant.gpu_ids if grant.node == name else ())


def grant_here(grant: Grant, node: Node) -> Grant:
    """Return the same amounts on this machine: CPUs as a quota rather than by number, and the first of its GPUs.

    Nobody granted them here: jobs of the workspace may use the same.

    Examples
    --------
    >>> there = Grant(id="a.1", node="gpu1", amounts={"cpu": 2.0, "gpu": 2.0}, cpu_ids=(4, 5), gpu_ids=("6", "7"))
    >>> here = grant_here(there, Node(name="laptop", capacity={"gpu": 1.0}, gpu_ids=("0",)))
    >>> here.node, dict(here.amounts), here.cpu_ids, here.gpu_ids
    ('laptop', {'cpu': 2.0, 'gpu': 2.0}, (), ('0',))
    """
    there = next((ids for resource in grant.amounts if (ids := node.ids_of(resource))), ())
    return replace(grant, node=node.name, cpu_ids=(), gpu_ids=there[: len(grant.gpu_ids)], reason="run again by hand")


def again_of(job: JobFile, changed: Mapping[str, Any]) -> JobFile:
    """Return a recorded job under a name of its own, which has no checkpoints: it begins at the beginning."""
    label = f"rerun-{job.attempt.rpartition('.')[0]}.1"
    return replace(job, attempt=label, checkpoint=label, args={**job.args, **changed})


def _notes(recorded: Attempt, grant: Grant, *, with_secrets: bool, in_image: bool) -> Iterator[str]:
    """Say what is not the same as it was."""
    agent, had = recorded.spec.agent, recorded.grant
    if agent.image is not None and not in_image:
        yield f"it ran in image {agent.image}, and runs with this machine's own programs now; --in-image takes the image"
    if had is not None and len(grant.gpu_ids) < len(had.gpu_ids):
        yield f"it had {len(had.gpu_ids)} GPUs, and has {len(grant.gpu_ids)} now: the node here names no more"
    if recorded.number > 1:
        yield "it may have gone on from a checkpoint of the attempt before, and begins at the beginning now"
    if agent.secrets and not with_secrets:
        yield f"it runs without its secrets {', '.join(sorted(agent.secrets))}; --with-secrets hands them over"


def _fresh(named: str | None) -> Path:
    if named is None:
        return Path(tempfile.mkdtemp(prefix="dla-rerun-"))
    folder = Path(named).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidSpec(f"--folder {folder} is not empty: a rerun needs a folder of its own; name a new one")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
