"""Puts anybody's operator behind a grant, unchanged: it waits deferred, runs with its share, and gives it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Final, TypeVar, cast

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import TaskDeferred

from airflow_dla.control import Origin, Workspace, assigned
from airflow_dla.errors import InvalidSpec, JobTimedOut
from airflow_dla.hooks import DlaHook, ResourceAllocationHook
from airflow_dla.ledger import Lease
from airflow_dla.operators.building import job_key, origin
from airflow_dla.operators.container_limits import apply_grant, runs_in_container
from airflow_dla.operators.failing import failing_for_good
from airflow_dla.operators.job import JobOperator
from airflow_dla.specs import Demand, JobPolicy, Request
from airflow_dla.specs.spec import templated
from airflow_dla.triggers.grant import GrantTrigger, HoldingTrigger
from airflow_dla.triggers.settling import this_process

Operator = TypeVar("Operator", bound=BaseOperator)

#: What a policy may say of an operator whose work is not ours to launch or stop.
_KNOWN: Final = ("place", "team", "priority", "wait_timeout", "wait_timeout_s", "gang", "gang_size", "deadline", "deadline_s")
#: Seconds after ``wait_timeout`` at which Airflow gives up on a trigger that should long have ended.
_BACKSTOP_S: Final = 600.0


def granted(
    operator: Operator,
    *,
    request: Mapping[str, Any],
    policy: Mapping[str, Any] | None = None,
    dla_conn_id: str = DlaHook.default_conn_name,
) -> Operator:
    """Put an operator behind a grant.

    The task asks for its share first and waits deferred, without a worker slot. Once it is
    granted, the operator runs as it always did: a container gets the grant as its limits
    where the author named none, any other operator sees the GPUs it was handed in
    ``CUDA_VISIBLE_DEVICES``. The grant is renewed while the operator runs, also while it is
    deferred itself, and given back when it ends, however it ends.

    Parameters
    ----------
    operator : operator
        Of any class but ours, which ask by themselves. It is changed in place.
    request : dict
        ``{"cpu": 4, "gpu": 1, "memory": "16GiB"}``; may hold templates.
    policy : dict, optional
        ``{place, team, priority, wait_timeout, gang, gang_size, deadline}``; may hold templates.
        Work in a container may run anywhere in its place, any other on the worker's host.
    dla_conn_id : str
        The workspace.

    Returns
    -------
    operator
        The same one.

    Raises
    ------
    InvalidSpec
        If it is a mapped operator or one of ours, or request or policy break a rule.

    Examples
    --------
    >>> from airflow.providers.standard.operators.bash import BashOperator
    >>> task = granted(BashOperator(task_id="t", bash_command="nvidia-smi"), request={"gpu": 1})
    >>> type(task).__name__, task.dla_request
    ('BashOperator', {'gpu': 1.0})
    """
    if not isinstance(operator, BaseOperator):
        raise InvalidSpec(
            f"granted() takes an operator, got {type(operator).__name__}; of a mapped task, wrap the whole work "
            "in one operator, or use ResourceAllocationHook inside its function"
        )
    if isinstance(operator, (JobOperator, Granted)):
        asks = f"{type(operator).__name__} asks for its share by itself; give it request="
        raise InvalidSpec(f"granted() of task {operator.task_id!r}: {asks}")
    where = f"granted() of task {operator.task_id!r}"
    unknown = sorted(set(policy or {}) - set(_KNOWN))
    if unknown:
        raise InvalidSpec(f"{where}: policy.{unknown[0]} says nothing here; known are {', '.join(_KNOWN)}")
    changed = cast("Any", operator)
    changed.dla_request = dict(request) if templated(request) else Request.from_mapping(request, f"{where}: request").to_mapping()
    changed.dla_policy = JobPolicy.draft(policy or {}, f"{where}: policy")
    changed.dla_conn_id = dla_conn_id
    kind = type(operator)
    changed.__class__ = type(kind)(  # type: ignore[misc]  # a class that is made as its base was
        kind.__name__, (Granted, kind), {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    )
    changed.template_fields = (*kind.template_fields, "dla_request", "dla_policy")
    return operator


class Granted(BaseOperator):
    """What `granted` adds to an operator's class."""

    dla_request: Mapping[str, Any]
    dla_policy: Mapping[str, Any]
    dla_conn_id: str

    #: The method that a granted wait resumes with.
    _RESUME: ClassVar[str] = "execute_granted"

    def execute(self, context: Context) -> Any:
        """Ask, and run when it is granted at once; else wait deferred."""
        with failing_for_good():
            asking = _Asking(self, context)
            if not asking.granted():
                asking.defer(self._RESUME)
        return self._run(context, lambda: super(Granted, self).execute(context))

    def execute_granted(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Run, now that the wait is over."""
        with failing_for_good():
            asking = _Asking(self, context)
            if event.get("timed_out"):
                asking.withdraw()
                raise JobTimedOut(f"no grant within wait_timeout ({asking.policy.wait_timeout_s:g} s) for task {self.task_id!r}")
            if not asking.granted():  # it expired before a worker was free, or is of a host that is not this one
                asking.defer(self._RESUME)
        return self._run(context, lambda: super(Granted, self).execute(context))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral: ours, or one of the operator itself, whose grant is still held."""
        if next_method == self._RESUME:
            return super().resume_execution(next_method, next_kwargs, context)
        return self._run(context, lambda: super(Granted, self).resume_execution(next_method, next_kwargs, context))

    def _run(self, context: Context, work: Callable[[], Any]) -> Any:
        """Do the operator's own work while its grant is held, and give the grant back unless the operator defers."""
        asking = _Asking(self, context)
        deferred = False
        try:
            with asking.hook.holding(asking.demand.id) as lease:
                self.log.info("Granted %s: %s", lease.grant.text(), apply_grant(self, lease.grant))
                return work()
        except TaskDeferred as deferral:
            deferred = True
            raise asking.holding(deferral) from None
        finally:
            if not deferred:
                asking.withdraw()


class _Asking:
    """One task's demand in the ledger."""

    def __init__(self, task: Granted, context: Context) -> None:
        self.hook = ResourceAllocationHook(task.dla_conn_id)
        self.workspace: Workspace = self.hook.get_conn()
        where = f"task {task.task_id!r}"
        key, come = job_key(context), origin(context)
        read = JobPolicy.from_mapping(task.dla_policy, f"{where}: policy")
        whence = Origin(dag=key.dag, bundle=come.get("bundle"), airflow_team=come.get("airflow_team"))
        self.policy = assigned(read, self.workspace.ledger.teams(), whence)
        self._here = self.policy.place == "any" and not runs_in_container(task)
        self._conn_id = task.dla_conn_id
        self._defer = task.defer
        self.demand = Demand(
            id=f"{key.id}.held",
            request=Request.from_mapping(task.dla_request, f"{where}: request"),
            place=self.policy.place,
            node=self.workspace.own_node if self._here else None,
            team=self.policy.team,
            priority=self.policy.priority,
            gang=None if self.policy.gang is None else f"{key.dag}/{key.run}/{self.policy.gang}",
            gang_size=self.policy.gang_size,
        )

    def granted(self) -> bool:
        """Ask, and tell whether it was granted, here where it must be here."""
        answer = self.hook.ask(self.demand)
        if isinstance(answer, Lease) and self._here and answer.grant.node not in self.workspace.runtimes:
            self.withdraw()
            answer = self.hook.ask(self.demand)
        return isinstance(answer, Lease)

    def withdraw(self) -> None:
        """Give the grant back, or cancel the wait."""
        self.workspace.ledger.release([self.demand.id])

    def defer(self, method: str) -> None:
        """Wait in the triggerer."""
        wait_s = self.policy.wait_timeout_s
        trigger = GrantTrigger(
            dla_conn_id=self._conn_id,
            fingerprint=self.workspace.fingerprint,
            demand=self.demand.id,
            deadline=None if wait_s is None else self.workspace.ledger.now() + wait_s,
            task_process=this_process(),
        )
        self._defer(trigger=trigger, method_name=method, timeout=None if wait_s is None else timedelta(seconds=wait_s + _BACKSTOP_S))

    def holding(self, deferral: TaskDeferred) -> TaskDeferred:
        """Return the operator's own deferral with a trigger that renews the grant meanwhile."""
        classpath, kwargs = deferral.trigger.serialize()
        trigger = HoldingTrigger(
            dla_conn_id=self._conn_id,
            fingerprint=self.workspace.fingerprint,
            demand=self.demand.id,
            classpath=classpath,
            kwargs=kwargs,
        )
        return TaskDeferred(trigger=trigger, method_name=deferral.method_name, kwargs=deferral.kwargs, timeout=deferral.timeout)
