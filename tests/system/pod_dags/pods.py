"""The DAGs of the Kubernetes tests: `counter.train` in pods of the image that the environment names."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import DAG

from airflow_dla import agent
from airflow_dla.operators import TrainModelOperator

counter = agent(
    "counter",
    image=os.environ.get("DLA_TEST_IMAGE", "none"),  # pytest reads this file, too
    entrypoints={"train": "counter:train"},
    request={"cpu": 0.1, "memory": "128MiB"},
)

#: What a pod leaves in a folder, nobody else sees.
ARGS = {"side": "counted", **{name: f"{{{{ dag_run.conf['{name}'] }}}}" for name in ("epochs", "pace", "hold")}}

for name, deferrable in (("pod_deferred", True), ("pod_sync", False)):
    with DAG(name, schedule=None):
        TrainModelOperator(
            task_id="job",
            agent=counter,
            dla_conn_id="dla_cluster",
            deferrable=deferrable,
            args=ARGS,
            outputs=["model"],
            retries=20,
            retry_delay=timedelta(seconds=1),
        )
