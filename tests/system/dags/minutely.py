"""A job every minute, for the forecast of what the schedule brings; paused until a test wants it."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG

from airflow_dla.operators import JobOperator

with DAG(
    "minutely",
    schedule="* * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    is_paused_upon_creation=True,
    max_active_runs=1,
):
    JobOperator(
        task_id="job", entrypoint=["sleep", "1"], agent={"name": "minutely", "code": None}, request={"cpu": 1}, policy={"priority": 7}
    )
