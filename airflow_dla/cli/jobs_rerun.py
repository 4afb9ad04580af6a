"""``airflow dla jobs rerun JOB --here``: what a recorded attempt ran, once more, for whoever wants to know why."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TextIO

import airflow_dla
from airflow_dla.artifacts import manifest_of
from airflow_dla.cli.answer import listing, metrics
from airflow_dla.cli.jobs_logs import follow
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import reported, speaking
from airflow_dla.control.launch import job_file
from airflow_dla.control.lines import Said, metric_line
from airflow_dla.errors import DlaError, InvalidSpec, JobFailed
from airflow_dla.hooks.workspace import local_node, resolve_secret
from airflow_dla.ledger import Attempt
from airflow_dla.runtime import Launch
from airflow_dla.runtime.files import write_whole
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.specs import Exit, ExitReason, Grant, JobFile, Node
from airflow_dla.specs.agents import Entrypoint

_LOOK_S: Final = 0.05
_READY: Final = "ready"
_WAITER: Final = f"import signal; print({_READY!r}, flush=True); signal.pause()"


@dataclass(frozen=True, slots=True)
class _Rerun:
    """An attempt that is run once more.

    Parameters
    ----------
    recorded : `Attempt`
        What the ledger knows.
    runtime : `LocalRuntime`
        Of this rerun alone.
    launch : `Launch`
    """

    recorded: Attempt
    runtime: LocalRuntime
    launch: Launch

    @property
    def label(self) -> str:
        return self.launch.job.attempt

    @property
    def folder(self) -> Path:
        return self.runtime.root / self.label

    def ended(self) -> Exit | None:
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


def rerun(args: Namespace) -> None:
    """Run an attempt once more on this machine; end with its exit status."""
    with speaking() as output:
        again = _prepared(args, Reach(args.conn_id))
        if not args.shell:
            sys.exit(_run(again, args, output))
        _wait_within(again)
    with reported():
        try:
            status = again.runtime.enter(again.label, (), terminal=os.isatty(0) and os.isatty(1))
        finally:
            again.stop()
    sys.exit(status)


def _run(again: _Rerun, args: Namespace, output: TextIO) -> int:
    with _stopped_with_us(again):
        again.runtime.submit(again.launch)
        _print(again.said(), sys.stderr if args.json else output)
    end = again.ended()
    assert end is not None
    found = _outputs(again) if end.succeeded else {}
    if end.succeeded and not args.keep:
        _tidy(again.folder)
    if args.json:
        output.write(f"{json.dumps(_document(again, end, found))}\n")
    else:
        sys.stderr.write(f"{_text(again, end, found)}\n")
    return _status(end)


def _print(said: Iterator[Said], output: TextIO) -> None:
    for piece in said:
        output.writelines(f"{line}\n" for line in (*piece.lines, *filter(None, map(metric_line, piece.events))))
        output.flush()


@contextlib.contextmanager
def _stopped_with_us(again: _Rerun) -> Iterator[None]:
    """Stop the job when we are: it is kept by a process that outlives us."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except BaseException:
        sys.stderr.write(f"stopping; it has {again.launch.job.grace_s:g} s to end\n")
        again.stop()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- what is run ---------------------------------------------------------------------


def _prepared(args: Namespace, reach: Reach) -> _Rerun:
    recorded = reach.attempt(args.job)
    if args.attempt is not None:
        recorded = reach.attempt(f"{recorded.job}.{args.attempt}")
    if recorded.grant is None:
        raise InvalidSpec(f"attempt {recorded.id} was never granted anything, so there is nothing to run again; see `jobs show`")
    settings, spec = reach.settings, recorded.spec
    grant = grant_here(recorded.grant, local_node(settings))
    made = job_file(reach.workspace(), recorded, grant)
    job = again_of(made, dict(args.set))
    secrets = {name: resolve_secret(where) for name, where in spec.agent.secrets.items()} if args.with_secrets else {}
    for note in _notes(recorded, grant, with_secrets=args.with_secrets):
        sys.stderr.write(f"{note}\n")
    runtime = LocalRuntime(_fresh(args.folder), node=settings.node, store_options=settings.store_options, publishes=False)
    return _Rerun(recorded, runtime, Launch(job=job, secrets=secrets))


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


def _notes(recorded: Attempt, grant: Grant, *, with_secrets: bool) -> Iterator[str]:
    """Say what is not the same as it was."""
    agent, had = recorded.spec.agent, recorded.grant
    if agent.image is not None:
        yield f"note: it ran in image {agent.image}, and runs with this machine's own programs now"
    if had is not None and len(grant.gpu_ids) < len(had.gpu_ids):
        yield f"note: it had {len(had.gpu_ids)} GPUs, and this machine's node names {len(grant.gpu_ids)}"
    if recorded.number > 1:
        yield "note: it went on from a checkpoint of the attempt before, and begins at the beginning now"
    if agent.secrets and not with_secrets:
        yield f"note: it runs without its secrets {', '.join(sorted(agent.secrets))}; --with-secrets hands them over"


def _fresh(named: str | None) -> Path:
    if named is None:
        return Path(tempfile.mkdtemp(prefix="dla-rerun-"))
    folder = Path(named).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidSpec(f"--folder {folder} is not empty: a rerun needs a folder of its own; name a new one")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


# --- a shell instead -----------------------------------------------------------------


def _wait_within(again: _Rerun) -> None:
    """Put all in place, with a process that waits where the job would run.

    Raises
    ------
    JobFailed
        If it cannot be put in place; says why.
    """
    job = again.launch.job
    command = Entrypoint(command=(sys.executable, "-c", _WAITER))
    waiter = replace(job, entrypoint=command, args={}, metrics={}, grace_s=1.0, run_timeout_s=None)
    with _stopped_with_us(again):
        again.runtime.submit(replace(again.launch, job=waiter))
        if not any(_READY in piece.lines for piece in again.said()):
            end = again.ended()
            raise JobFailed(f"{again.recorded.id} cannot be put in place here: {end.message if end else 'it waits for nothing'}")
    write_whole(again.folder / "job.json", job.to_mapping())
    agents = Path(airflow_dla.__file__).parent / "agents"
    sys.stderr.write(f"{again.folder} is as the job finds it; this runs it:\n  {sys.executable} {agents} run {again.folder}\n")


# --- what came of it -----------------------------------------------------------------


def _outputs(again: _Rerun) -> dict[str, str]:
    """Return the digests that its outputs would have in a store."""
    recorded = again.recorded.exit.outputs if again.recorded.exit else {}
    found: dict[str, str] = {}
    for name in again.launch.job.outputs:
        folder = _folder_of(again.folder / "out" / name)
        kind = recorded[name].kind if name in recorded else "dataset"
        with contextlib.suppress(DlaError):  # what cannot be published has no digest
            found[name] = manifest_of(folder, kind=kind).digest
    return found


def _folder_of(path: Path) -> Path:
    """Make an output the folder that it is published as; a script may have put one file in its place."""
    if path.is_file():
        aside = path.with_name(f".{path.name}")
        path.rename(aside)
        path.mkdir()
        aside.rename(path / path.name)
    return path


def _tidy(folder: Path) -> None:
    for name in ("in", "tmp", "code", ".checkpoint"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _same(again: _Rerun, end: Exit, found: Mapping[str, str]) -> dict[str, bool]:
    """Say of each output and metric that was recorded whether it is the same."""
    recorded = again.recorded.exit
    if recorded is None or not recorded.succeeded:
        return {}
    outputs = {name: found.get(name) == ref.digest for name, ref in recorded.outputs.items()}
    return {**outputs, **{name: end.metrics.get(name) == value for name, value in recorded.metrics.items()}}


def _document(again: _Rerun, end: Exit, found: Mapping[str, str]) -> dict[str, Any]:
    return {
        "attempt": again.recorded.id,
        "folder": str(again.folder),
        "exit": end.to_mapping(),
        "outputs": dict(found),
        "same": _same(again, end, found),
    }


def _text(again: _Rerun, end: Exit, found: Mapping[str, str]) -> str:
    same = _same(again, end, found)
    other = ", ".join(name for name, equal in same.items() if not equal)
    return listing(
        {
            "rerun of": again.recorded.id,
            "ended": end.reason.value,
            "message": end.message or None,
            "metrics": metrics(end.metrics),
            "outputs": ", ".join(f"{name} {digest}" for name, digest in found.items()) or None,
            "as recorded": None if not same else f"all but {other}" if other else "all of it",
            "folder": again.folder,
        }
    )


def _status(end: Exit) -> int:
    if end.succeeded:
        return 0
    return end.code or (128 + end.signal if end.signal else 1)
