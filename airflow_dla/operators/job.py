"""The operator that runs one entrypoint of an agent as a job of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.sdk import BaseOperator, BaseOperatorLink, Context
from airflow.sdk.exceptions import TaskDeferralError

from airflow_dla.errors import JobError
from airflow_dla.hooks.jobs import JobHook
from airflow_dla.hooks.workspace import DlaHook
from airflow_dla.ledger import Attempt
from airflow_dla.operators.building import Fields, build, job_key, lineage, prepare
from airflow_dla.operators.failing import failing_for_good
from airflow_dla.operators.links import ArtifactLink, JobLogLink
from airflow_dla.operators.results import result, say_end
from airflow_dla.specs import ExitReason, JobSpec
from airflow_dla.triggers.job import JobTrigger
from airflow_dla.triggers.settling import this_process

if TYPE_CHECKING:
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

#: Seconds after its deadline at which Airflow gives up on a trigger that should long have ended.
_BACKSTOP_S: Final = 600.0


class JobOperator(BaseOperator):
    """Runs one entrypoint as a job: granted its resources before launch, followed to its end, safe from crashes.

    Parameters
    ----------
    agent : dict, optional
        What `airflow_dla.agent` returns.
    entrypoint : str or list of str, optional
        ``"module:function"`` or ``["python", "train.py"]``; the agent's entrypoint of the verb by default.
    args : dict, optional
        Plain values: ``job.args`` of a function, flags of a command.
    inputs : dict of references, optional
        ``x.output["name"]``, ``model("digits@champion")``, ``uri("s3://…")``.
    outputs : list of str, optional
        What it must write; each becomes an XCom of its name.
    request : dict or "auto", optional
        ``{"cpu": "1-2", "memory": "1GiB", "gpu": 1}``; replaces the agent's. ``"auto"``: what
        earlier runs of the task used and a margin, the agent's at first; after one was killed
        for memory, twice what that had.
    policy : dict, optional
        ``{place, team, priority, preemptible, wait_timeout, run_timeout, infra_retries, grace, overrides}``
    distributed : dict, optional
        What `airflow_dla.torchrun` returns: several processes that train one model together.
    deferrable : bool
        Wait in the triggerer, holding no worker slot, whatever ``default_deferrable`` says.
    dla_conn_id : str
        The workspace.
    retries, retry_delay
        Of the user's errors; losses of processes and nodes are retried within a try.
    """

    verb: ClassVar[str] = "job"
    #: Seconds to wait here for a job that may be quick, before deferring.
    quick_s: ClassVar[float] = 3.0
    template_fields: Sequence[str] = ("agent", "entrypoint", "args", "inputs", "outputs", "request", "policy", "distributed", "dla_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"agent": "json", "args": "json", "inputs": "json", "policy": "json"}
    operator_extra_links: Collection[BaseOperatorLink] = (JobLogLink(), ArtifactLink())
    ui_color = "#e8f4ea"

    def __init__(
        self,
        *,
        agent: Mapping[str, Any] | None = None,
        entrypoint: str | Sequence[str] | None = None,
        args: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
        request: Mapping[str, Any] | str | None = None,
        policy: Mapping[str, Any] | None = None,
        distributed: Mapping[str, Any] | None = None,
        deferrable: bool = True,
        dla_conn_id: str = DlaHook.default_conn_name,
        retries: int | None = 2,
        retry_delay: timedelta | float = timedelta(seconds=30),
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(retries=retries, retry_delay=retry_delay, multiple_outputs=multiple_outputs, **kwargs)
        self.agent = agent
        self.entrypoint = entrypoint
        self.args = args
        self.inputs = inputs
        self.outputs = outputs
        self.request = request
        self.policy = policy
        self.distributed = distributed
        self.deferrable = deferrable
        self.dla_conn_id = dla_conn_id

    if TYPE_CHECKING:

        @property
        def output(self) -> PlainXComArg:
            """What an output's name is looked up in: ``x.output["model"]``; Airflow declares it too widely for that."""

    @cached_property
    def hook(self) -> JobHook:
        """The hook that runs the job; connects when first used."""
        return JobHook(self.dla_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Open the job's attempt, wait a moment for a quick one, else defer once or follow here."""
        with failing_for_good():
            attempt = self._open(context)
            reason = self.hook.cannot_defer(attempt) if self.deferrable else "deferrable=False"
            if not reason and (ended := self.hook.wait(attempt, timeout_s=self.quick_s)) is None:
                self._defer(self.hook.find(attempt.id))
            if reason:
                self.log.info("Following the job here, in the worker: %s", reason)
                ended = self.hook.wait(attempt)
            assert ended is not None
            return self.finish(context, ended)

    def resume(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Take over from the trigger: the job is over, or can only be followed here."""
        with failing_for_good():
            if "error" in event:
                raise JobError(f"the job cannot be followed from the triggerer: {event['error']}")
            attempt = self.hook.find(event["attempt"])
            if event.get("elsewhere"):
                self.log.info("The triggerer runs on another host than the job: following it here")
            ended = attempt if attempt.ended else self.hook.wait(attempt)
            assert ended is not None
            return self.finish(context, ended)

    def finish(self, context: Context, attempt: Attempt) -> dict[str, Any]:
        """Turn a job that is over into XComs, or raise what went wrong."""
        say_end(self.log, attempt)
        assert attempt.exit is not None
        if not attempt.exit.succeeded:
            raise attempt.exit.error(f"job {attempt.spec.key}, attempt {attempt.number}")
        values = self.deliver(context, attempt)
        workspace = self.hook.get_conn()
        workspace.ledger.deliver(attempt.id)
        workspace.store.drop_checkpoints(attempt.job)
        return values

    def deliver(self, context: Context, attempt: Attempt) -> dict[str, Any]:  # noqa: ARG002 - presets need the context
        """Return what crosses XCom: references and a few metrics."""
        return result(attempt)

    def fields(self) -> Fields:
        """Return the rendered fields as the author gave them."""
        folder = Path(self.dag.fileloc).parent
        return Fields(
            self.agent,
            self.entrypoint,
            self.args,
            self.inputs,
            self.outputs,
            self.request,
            self.policy,
            self.verb,
            folder,
            self.distributed,
        )

    def on_kill(self) -> None:
        """Stop the job: Airflow wants this task to end."""
        if "hook" in self.__dict__:
            self.hook.stop()

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral; one that Airflow gave up on has its job stopped first."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralError:
            attempt = self.hook.get_conn().ledger.last_attempt(job_key(context).id)
            if attempt is not None and not attempt.ended:
                self.hook.get_conn().ledger.want_stop(attempt.id, ExitReason.TIMED_OUT)
                self.hook.wait(attempt, timeout_s=attempt.spec.policy.grace_s + 10.0)
            raise

    def _open(self, context: Context) -> Attempt:
        fields, key = self.fields(), job_key(context)
        workspace = self.hook.get_conn()
        spec = build(fields, key, self.hook.settings, lineage(context))
        last = workspace.ledger.last_attempt(key.id)
        if last is not None and not last.ended and last.stop not in {None, ExitReason.PREEMPTED}:
            self.log.info("Attempt %s is being stopped; waiting for its end", last.id)
            self.hook.wait(last, timeout_s=last.spec.policy.grace_s + 10.0)
        if last is not None and delivered_to_lost_try(last, spec):
            self.log.info("Attempt %s succeeded, but the try it was delivered to did not end well: its result is taken again", last.id)
            return last
        if self.agent is not None:
            workspace.ledger.put_agent(spec.agent)
        attempt = self.hook.open(prepare(workspace, spec, fields.dag_folder), deferred=self.deferrable)
        self.log.info("Job %s, attempt %d (%s)", key, attempt.number, attempt.id)
        return attempt

    def _defer(self, attempt: Attempt) -> None:
        workspace = self.hook.get_conn()
        deadline = None
        if self.execution_timeout is not None:
            deadline = workspace.ledger.now() + self.execution_timeout.total_seconds() - self.quick_s
        trigger = JobTrigger(
            dla_conn_id=self.dla_conn_id,
            fingerprint=workspace.fingerprint,
            attempt=attempt.id,
            deadline=deadline,
            inherited_until=self.hook.inherited_until,
            task_process=this_process(waited_s=self.quick_s),
        )
        self.defer(trigger=trigger, method_name="resume", timeout=self._backstop(attempt))

    def _backstop(self, attempt: Attempt) -> timedelta | None:
        """Return when Airflow should give up on the trigger: padded, since that calls nobody."""
        policy = attempt.spec.policy
        if self.execution_timeout is not None:
            return self.execution_timeout + timedelta(seconds=_BACKSTOP_S + policy.grace_s)
        if policy.wait_timeout_s is None or policy.run_timeout_s is None or policy.preemptible:
            return None  # each attempt has its own wait and run, and nobody knows how often it will be preempted
        return timedelta(seconds=(policy.wait_timeout_s + policy.run_timeout_s) * (1 + policy.infra_retries) + _BACKSTOP_S)


def delivered_to_lost_try(last: Attempt, spec: JobSpec) -> bool:
    """Whether an attempt's result went to an earlier try of the same task that Airflow then failed.

    A try may be failed after its job's result was taken (apache/airflow#71580). Clearing a
    task raises ``max_tries``, a retry does not: only a cleared task runs its job again.
    """
    succeeded = last.exit is not None and last.exit.succeeded and last.delivered_at is not None
    return succeeded and last.spec.lineage.get("max_tries") == spec.lineage.get("max_tries")
