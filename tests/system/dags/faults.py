"""The DAGs of the fault tests: each runs `counter.train` in its own way, driven by the run's conf."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task

from airflow_dla import agent
from airflow_dla.operators import InferenceOperator, JobOperator, PrepareDataOperator, TrainModelOperator

counter = agent(
    "counter",
    entrypoints={"train": "counter:train", "prepare": "counter:train", "infer": "counter:train"},
    request={"cpu": 0.1, "memory": "256MiB"},
)
soon = timedelta(seconds=1)


def args(task_id: str = "job", **fixed: Any) -> dict[str, Any]:
    """Return the work's arguments, taken from the run's conf."""
    conf = {name: f"{{{{ dag_run.conf['{name}'] }}}}" for name in ("epochs", "pace", "hold")}
    return {"side": f"{{{{ dag_run.conf['side'] }}}}/{task_id}", **conf, **fixed}


def one(dag_id: str, **options: Any) -> None:
    """Make a DAG of one training task."""
    given = {"retries": 2, "retry_delay": soon, **options}
    with DAG(dag_id, schedule=None):
        TrainModelOperator(task_id="job", agent=counter, args=args(), outputs=["model"], **given)


one("job_deferred")
one("job_sync", deferrable=False)
one("job_sync_narrow", deferrable=False, pool="narrow")
one("job_brief", dla_conn_id="dla_brief", deferrable=False)
one("job_timeout", execution_timeout=timedelta(seconds=15), retries=0)
for name, deferrable in (("job_postgres", True), ("job_postgres_sync", False)):
    one(name, dla_conn_id="dla_postgres", request={"cpu": 1, "memory": "256MiB"}, deferrable=deferrable)

for name, policy in (("job_low", {"preemptible": True}), ("job_high", {"priority": 5})):
    one(name, dla_conn_id="dla_hasty", request={"cpu": 1, "memory": "256MiB"}, policy=policy, retries=0)

with DAG("job_pipeline", schedule=None):
    data = PrepareDataOperator(task_id="prepare", agent=counter, args=args("prepare", pace="0.5"), outputs=["model"])
    fit = TrainModelOperator(
        task_id="train", agent=counter, args=args("train"), inputs={"data": data.output["model"]}, outputs=["model"], deferrable=False
    )
    InferenceOperator(
        task_id="infer", agent=counter, args=args("infer", pace="0"), inputs={"model": fit.output["model"]}, outputs=["model"]
    )

with DAG("blockers", schedule=None):
    BashOperator.partial(task_id="block", pool="narrow", priority_weight=100).expand(bash_command=["exec sleep 900"] * 4)

with DAG("fillers", schedule=None):
    BashOperator.partial(task_id="block", priority_weight=100).expand(bash_command=["exec sleep 900"] * 6)

with DAG("many", schedule=None, max_active_tasks=256):

    @task
    def naps(**context: Any) -> list[dict[str, str]]:
        """Return naps of 3 to 5 seconds, so that most jobs outlive the moment in which their task waits for them."""
        count = int(context["dag_run"].conf["count"])
        return [{"seconds": f"{3 + 2 * number / count:.3f}"} for number in range(count)]

    JobOperator.partial(task_id="nap", agent=counter, entrypoint="counter:nap", request={"cpu": 0.01, "memory": "64MiB"}, retries=0).expand(
        args=naps()
    )
