"""What waits in the triggerer: `JobTrigger` follows a job from its grant to its end."""

from airflow_dla.triggers.job import JobTrigger

__all__ = ["JobTrigger"]
