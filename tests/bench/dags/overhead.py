"""The same nothing through Airflow's operators and ours, one task after the other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator, chain

from airflow_dla import agent
from airflow_dla.operators import JobOperator

nothing = agent("nothing", code=None, request={"cpu": 0.5, "memory": "128MiB"})


class Nap(BaseOperator):
    """Defers for twenty seconds: Airflow's own cost of one hop."""

    def execute(self, context: Any) -> None:
        """Defer."""
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=20)), method_name="resume")

    def resume(self, context: Any, event: Any) -> None:
        """Do nothing."""


with DAG("overhead", schedule=None):
    chain(
        BashOperator(task_id="bash", bash_command="true"),
        JobOperator(task_id="dla_sync", agent=nothing, entrypoint=["true"], deferrable=False),
        JobOperator(task_id="dla_quick", agent=nothing, entrypoint=["true"]),
        Nap(task_id="airflow_deferred"),
        JobOperator(task_id="dla_deferred", agent=nothing, entrypoint=["sleep", "20"]),
        JobOperator(task_id="dla_deferred_short", agent=nothing, entrypoint=["sleep", "4"]),
    )
