"""The verb *prepare*: from raw data to datasets."""

from __future__ import annotations

from typing import ClassVar

from airflow_dla.operators.job import JobOperator


class PrepareDataOperator(JobOperator):
    """Runs the agent's entrypoint ``prepare``; its outputs are datasets."""

    verb: ClassVar[str] = "prepare"
    ui_color = "#e6f0fb"
