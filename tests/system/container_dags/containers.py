"""The DAGs of the Docker tests: `counter.train` in containers of the engine and the image that the environment names."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_dla import agent
from airflow_dla.operators import TrainModelOperator

SIDE = os.environ.get("DLA_TEST_SIDE", "/nowhere")  # pytest reads this file, too

counter = agent(
    "counter",
    image=os.environ.get("DLA_TEST_IMAGE", "none"),
    entrypoints={"train": "counter:train", "talk": "crowd:talk"},
    volumes={SIDE: SIDE},
    request={"cpu": 0.5, "memory": "128MiB"},
)


def conf(name: str) -> str:
    """Return the template of one field of the run's conf."""
    return f"{{{{ dag_run.conf['{name}'] }}}}"


def one(dag_id: str, **options: Any) -> None:
    """Make a DAG of one training task."""
    args = {"side": f"{conf('side')}/job", **{name: conf(name) for name in ("epochs", "pace", "hold")}}
    given = {"dla_conn_id": "dla_engine", "retries": 20, "retry_delay": timedelta(seconds=1), **options}
    with DAG(dag_id, schedule=None):
        TrainModelOperator(task_id="job", agent=counter, args=args, outputs=["model"], **given)


one("docker_deferred")
one("docker_sync", deferrable=False)
for name, policy in (("docker_low", {"preemptible": True, "grace": "10s"}), ("docker_high", {"priority": 5})):
    one(name, dla_conn_id="dla_scarce", request={"cpu": 1, "memory": "128MiB"}, policy=policy, retries=0)

with DAG("docker_crowd", schedule=None, max_active_tasks=512):

    @task
    def each(**context: Any) -> list[dict[str, str]]:
        """Return the arguments of as many jobs as the run wants, each with a folder of its own."""
        given = context["dag_run"].conf
        return [{"side": f"{given['side']}/{number}", "pace": str(given["pace"])} for number in range(int(given["count"]))]

    TrainModelOperator.partial(
        task_id="job",
        agent=counter,
        entrypoint="crowd:talk",
        dla_conn_id="dla_engine",
        request={"cpu": 0.25, "memory": "64MiB"},
        retries=0,
    ).expand(args=each())
