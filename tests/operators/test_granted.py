"""Tests of anybody's operator behind a grant: real ledger, no Airflow processes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent
from fixtures_airflow import context

from airflow_dla.errors import InvalidSpec, JobTimedOut
from airflow_dla.hooks import DlaHook
from airflow_dla.operators import JobOperator, granted
from airflow_dla.operators.container_limits import apply_grant
from airflow_dla.specs import Grant, Node
from airflow_dla.triggers import GrantTrigger, HoldingTrigger

pytestmark = pytest.mark.usefixtures("embedded")


def ledger() -> Any:
    """Return the embedded workspace's ledger."""
    return DlaHook(kind="worker").workspace().ledger


def cpus() -> float:
    """Return how many CPUs this host offers."""
    return float(next(iter(ledger().nodes())).node.capacity["cpu"])


def python(work: Any, **more: Any) -> Any:
    """Return a Python operator behind a grant of one CPU."""
    with DAG("d", schedule=None):
        return granted(PythonOperator(task_id="t", python_callable=work), request={"cpu": 1}, **more)


def test_the_operator_runs_while_its_grant_is_held() -> None:
    """The unchanged work sees its grant in the ledger, and nothing is left afterwards."""
    seen = []
    task = python(lambda: seen.extend(ledger().leases()) or 42)
    assert task.execute(context("t")) == 42
    assert [lease.grant.amounts for lease in seen] == [{"cpu": 1.0}]
    assert ledger().leases() == ()
    assert isinstance(task, PythonOperator)


def test_an_error_of_the_operator_frees_the_grant() -> None:
    """The error is the operator's own."""
    with pytest.raises(ZeroDivisionError):
        python(lambda: 1 / 0).execute(context("t"))
    assert ledger().leases() == ()


def test_what_does_not_fit_waits_deferred_and_runs_when_it_does() -> None:
    """The wait holds no worker; its trigger survives the journey, and its event begins the work."""
    with DAG("d", schedule=None):
        whole = granted(PythonOperator(task_id="t", python_callable=lambda: "done"), request={"cpu": cpus()})

    def blocked() -> Any:
        with pytest.raises(TaskDeferred) as deferral:
            whole.execute(context("t"))
        return deferral.value

    task = python(blocked)
    deferral = task.execute(context("other"))
    path, kwargs = deferral.trigger.serialize()
    assert (path, deferral.method_name) == ("airflow_dla.triggers.grant.GrantTrigger", "execute_granted")
    trigger = GrantTrigger(**json.loads(json.dumps(kwargs)), added_by_a_newer_version=1)

    async def first() -> TriggerEvent:
        return await anext(trigger.run())

    event = asyncio.run(first())
    assert event.payload == {"granted": True}
    assert whole.resume_execution(deferral.method_name, {"event": event.payload}, context("t")) == "done"
    assert ledger().leases() == ()


def test_a_wait_that_is_too_long_withdraws_the_demand() -> None:
    """Airflow may retry."""
    with DAG("d", schedule=None):
        task = granted(PythonOperator(task_id="t", python_callable=int), request={"cpu": 1}, policy={"wait_timeout": "5s"})
    with pytest.raises(JobTimedOut, match="wait_timeout"):
        task.execute_granted(context("t"), {"timed_out": True})
    assert ledger().snapshot().pending == ()


def test_a_retry_takes_the_grant_of_a_lost_worker_over() -> None:
    """The same task asks under the same id, so that a crash leaks nothing."""
    task = python(lambda: [lease.grant.id for lease in ledger().leases()])
    with pytest.raises(KeyboardInterrupt):
        python(_interrupt).execute(context("t"))
    assert len(task.execute(context("t", try_number=2))) == 1
    assert ledger().leases() == ()


def _interrupt() -> None:
    raise KeyboardInterrupt


class Own(BaseTrigger):
    """A trigger of somebody else's."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.answer = answer

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Name the class and its argument."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"answer": self.answer}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire once."""
        await asyncio.sleep(0.1)
        yield TriggerEvent(self.answer)


class Deferring(BaseOperator):
    """An operator of somebody else's that defers by itself."""

    def execute(self, context: Any) -> None:
        """Wait elsewhere."""
        self.defer(trigger=Own(7), method_name="back", kwargs={"more": 1})

    def back(self, context: Any, event: int, more: int) -> int:
        """Return what came back."""
        return event + more


def test_an_operator_that_defers_keeps_its_grant_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own trigger runs inside ours, which renews the lease; its own method resumes it."""
    monkeypatch.setitem(__import__("sys").modules, Own.__module__, __import__("types").SimpleNamespace(Own=Own))
    with DAG("d", schedule=None):
        task = granted(Deferring(task_id="t"), request={"cpu": 1})
    with pytest.raises(TaskDeferred) as found:
        task.execute(context("t"))
    assert len(ledger().leases()) == 1
    path, kwargs = found.value.trigger.serialize()
    trigger = HoldingTrigger(**json.loads(json.dumps(kwargs)))
    assert trigger.serialize() == (path, kwargs)

    async def first() -> TriggerEvent:
        return await anext(trigger.run())

    event = asyncio.run(first())
    assert task.resume_execution("back", {**found.value.kwargs, "event": event.payload}, context("t")) == 8
    assert ledger().leases() == ()


@pytest.mark.parametrize(
    ("request_", "policy", "said"),
    [
        ({"cpus": 1}, {}, "did you mean 'cpu'"),
        ({"cpu": -1}, {}, "cpu"),
        ({"cpu": 1}, {"preemptible": True}, "says nothing here"),
        ({"cpu": 1}, {"gang_size": 2}, "gang"),
    ],
)
def test_bad_input_is_refused_when_the_dag_is_read(request_: Any, policy: Any, said: str) -> None:
    """The task is named."""
    with DAG("d", schedule=None), pytest.raises(InvalidSpec, match=said):
        granted(PythonOperator(task_id="t", python_callable=int), request=request_, policy=policy)


def test_what_can_never_be_granted_fails_for_good() -> None:
    """No retry can help."""
    with DAG("d", schedule=None):
        task = granted(PythonOperator(task_id="t", python_callable=int), request={"cpu": 4096})
    with pytest.raises(AirflowFailException, match="never"):
        task.execute(context("t"))


def test_ours_and_mapped_operators_are_refused() -> None:
    """One asks by itself, the other is no operator yet."""
    with DAG("d", schedule=None):
        with pytest.raises(InvalidSpec, match="by itself"):
            granted(JobOperator(task_id="job", entrypoint="a:b"), request={"cpu": 1})
        mapped = PythonOperator.partial(task_id="m", python_callable=int).expand(op_args=[[1]])
        with pytest.raises(InvalidSpec, match="takes an operator"):
            granted(mapped, request={"cpu": 1})


def test_a_template_is_checked_when_it_is_known() -> None:
    """The request is rendered like any other field."""
    with DAG("d", schedule=None):
        task = granted(PythonOperator(task_id="t", python_callable=int), request={"cpu": "{{ params.cpu }}"})
    assert {"dla_request", "dla_policy"} <= set(task.template_fields)
    assert task.dla_request == {"cpu": "{{ params.cpu }}"}


class Pod:
    """The field of a Kubernetes operator that holds its limits."""

    container_resources: Any = "the author's"


class Container:
    """The fields of a Docker operator that hold its limits."""

    cpus = 1.0
    mem_limit: str | None = None
    device_requests: Any = None


def test_a_grant_becomes_the_limits_of_a_container() -> None:
    """What the author named stays."""
    grant = Grant(id="g", node="n", amounts={"cpu": 2.5, "memory": 1.5})
    container = Container()
    assert apply_grant(container, grant) == "cpus 2.5, mem_limit 1536m"
    assert (container.cpus, container.mem_limit) == (2.5, "1536m")
    assert apply_grant(Pod(), grant) == "container_resources is the author's, and stays"


def test_a_plain_process_sees_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no others; without GPUs nothing is touched."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "all of them")
    assert apply_grant(object(), Grant(id="g", node="n", amounts={"cpu": 1})) == "accounted for, not enforced"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "all of them"
    apply_grant(object(), Grant(id="g", node="n", amounts={"gpu": 2.0}, gpu_ids=("1", "3")))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,3"


def test_work_in_a_container_may_run_on_a_declared_node() -> None:
    """It is not bound to the worker's host."""
    ledger().register_node(Node(name="far", place="cluster", capacity={"cpu": 4096.0}))

    class InContainer(PythonOperator):
        container_resources: Any = "the author's"

    with DAG("d", schedule=None):
        task = granted(InContainer(task_id="t", python_callable=lambda: ledger().leases()), request={"cpu": 2000})
    (lease,) = task.execute(context("t"))
    assert lease.grant.node == "far"
