"""One run of the digits DAG in this process, in the demo's home; the environment must be the home's already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from airflow.dag_processing.dagbag import DagBag
from airflow.jobs.job import most_recent_job
from airflow.models.trigger import Trigger
from airflow.sdk import DAG
from airflow.sdk.listener import get_listener_manager
from airflow.sdk.log import configure_logging
from airflow.utils.db import initdb
from airflow.utils.session import create_session

from airflow_dla.control import Workspace
from airflow_dla.demo.interrupts import Interrupts, stop_run
from airflow_dla.demo.progress import Progress
from airflow_dla.demo.report import Outcome, StepReport
from airflow_dla.demo.steps import Step
from airflow_dla.demo.tasklog import TaskLogs
from airflow_dla.errors import Conflict, InvalidSpec
from airflow_dla.hooks import DlaHook
from airflow_dla.ledger import Attempt, ModelVersion
from airflow_dla.specs import JobKey

DAG_ID: Final = "digits"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What a run needs: the home, its DAG and where logs go."""

    home: Path
    dag: DAG
    logs: TaskLogs


def open_pipeline(home: Path) -> Pipeline:
    """Make the metadata database, send logs to files and read the DAG.

    Raises
    ------
    Conflict
        If a scheduler is alive in this home: it would run the demo's tasks a second time.
    InvalidSpec
        If the DAG file, which its owner may have edited, cannot be read.
    """
    logs = TaskLogs(home / "logs", home / "logs" / "demo.log")
    configure_logging(json_output=True, output=logs, cache_logger_on_first_use=False)
    initdb()
    refuse_scheduler(home)
    return Pipeline(home, read_dag(home / "dags" / "digits.py"), logs)


def refuse_scheduler(home: Path) -> None:
    """Refuse a home whose Airflow runs.

    Raises
    ------
    Conflict
        If its scheduler has been heard of in the last half minute.
    """
    with create_session() as session:
        job = most_recent_job("SchedulerJob", session=session)
        if job is not None and job.is_alive():
            raise Conflict(
                f"an Airflow is running in {home} (scheduler on {job.hostname}): trigger the DAG {DAG_ID!r} in its web UI, or stop it first"
            )


def read_dag(path: Path) -> DAG:
    """Read the digits DAG from its file.

    Raises
    ------
    InvalidSpec
        If there is none; says what reading it said.
    """
    bag = DagBag(str(path))
    if DAG_ID not in bag.dags:
        why = next(iter(bag.import_errors.values()), f"it defines {', '.join(bag.dags) or 'no DAG'}")
        raise InvalidSpec(f"{path} does not define the DAG {DAG_ID!r}: {why}")
    return bag.dags[DAG_ID]


def run_pipeline(pipeline: Pipeline, *, began: Callable[[Step], None], ended: Callable[[Step, Mapping[str, float]], None]) -> Outcome:
    """Run the DAG once; return what came of it.

    Parameters
    ----------
    pipeline : `Pipeline`
    began, ended : callable
        Told of each step, the second with what it was granted.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C or SIGTERM; the running job was stopped.
    """
    workspace = DlaHook().workspace()
    progress, interrupts = Progress(DAG_ID), Interrupts()

    def begin(step: Step) -> None:
        interrupts.watch()
        pipeline.logs.begin(log_path(pipeline.logs, progress.run, step))
        began(step)

    def end(step: Step) -> None:
        pipeline.logs.end()
        ended(step, granted(job_of(workspace, progress.run, step.name)))

    progress.began, progress.ended = begin, end
    with _listening(progress), _stopping(workspace, progress, interrupts):
        run = pipeline.dag.test()
    Trigger.clean_unused()  # else a triggerer of this home would start those of the run again
    states = {ti.task_id: str(ti.state or "none") for ti in run.get_task_instances()}
    return outcome(pipeline, workspace, progress, states)


@contextmanager
def _listening(progress: Progress) -> Iterator[None]:
    manager = get_listener_manager()
    manager.add_listener(progress)
    try:
        yield
    finally:
        manager.pm.unregister(progress)


@contextmanager
def _stopping(workspace: Workspace, progress: Progress, interrupts: Interrupts) -> Iterator[None]:
    """Stop what runs when a person interrupts, whether or not Airflow passed that on."""
    try:
        yield
    finally:
        if interrupts.seen:
            stop_run(workspace, DAG_ID, progress.run)
    if interrupts.seen:
        raise KeyboardInterrupt


def log_path(logs: TaskLogs, run: str, step: Step) -> Path:
    """Return where a step's log lies."""
    return logs.path(dag=DAG_ID, run=run, task=step.name, attempt=step.attempt)


def job_of(workspace: Workspace, run: str, task: str) -> Attempt | None:
    """Return the last attempt of a step's job."""
    return workspace.ledger.last_attempt(JobKey(dag=DAG_ID, run=run, task=task).id)


def granted(job: Attempt | None) -> dict[str, float]:
    """Return what a job was granted, empty when it never was."""
    return dict(job.grant.amounts) if job is not None and job.grant is not None else {}


def outcome(pipeline: Pipeline, workspace: Workspace, progress: Progress, states: Mapping[str, str]) -> Outcome:
    """Collect what the ledger and Airflow know of the run."""
    jobs = {task: job_of(workspace, progress.run, task) for task in states}
    ordered = [task.task_id for task in pipeline.dag.topological_sort()]
    version = version_of(workspace.registry.versions(DAG_ID), jobs.get("save"))
    predictions = _folder(workspace, _output(jobs.get("infer"), "predictions"))
    return Outcome(
        home=pipeline.home,
        run=progress.run,
        steps=tuple(step_report(pipeline.logs, progress, name, states[name], jobs[name]) for name in ordered),
        accuracy=_metric(jobs.get("evaluate"), "accuracy"),
        version=version.number if version else None,
        digest=version.digest if version else None,
        model=_folder(workspace, version.digest if version else None),
        predictions=predictions,
        store=workspace.store.url,
    )


def step_report(logs: TaskLogs, progress: Progress, name: str, state: str, job: Attempt | None) -> StepReport:
    """Say what a step was granted, why, and what went wrong."""
    step = progress.steps.get(name, Step(name))
    return StepReport(
        name=name,
        state=state,
        seconds=round(step.seconds, 2),
        granted=granted(job),
        reason=job.grant.reason if job and job.grant else "",
        error=step.error if state != "success" else "",
        log=log_path(logs, progress.run, step) if step.began else None,
    )


def version_of(versions: Sequence[ModelVersion], save: Attempt | None) -> ModelVersion | None:
    """Return the version that the step *save* registered."""
    return next((version for version in versions if save is not None and version.registered_by == save.id), None)


def _metric(job: Attempt | None, name: str) -> float | None:
    return job.exit.metrics.get(name) if job is not None and job.exit is not None else None


def _output(job: Attempt | None, name: str) -> str | None:
    output = job.exit.outputs.get(name) if job is not None and job.exit is not None else None
    return output.digest if output is not None else None


def _folder(workspace: Workspace, digest: str | None) -> Path | None:
    return workspace.store.folder(digest) if digest else None
