"""A DAG without anything of ours: it shows that the harness runs a real Airflow."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG, task


@task
def answer() -> int:
    """Return something small."""
    print("the task says hello")  # noqa: T201 - what a task prints is in its log
    return 42


with DAG("harness_quick", schedule=None):
    BashOperator(task_id="shell", bash_command="echo the shell says hello") >> answer()

with DAG("harness_long", schedule=None):
    BashOperator(task_id="running", bash_command="exec sleep 600", retries=1, retry_delay=timedelta(seconds=1))
    TimeDeltaSensor(task_id="deferred", delta=timedelta(minutes=10), deferrable=True)
