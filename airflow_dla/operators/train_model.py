"""The verb *train*: from datasets to a model."""

from __future__ import annotations

from typing import ClassVar

from airflow_dla.operators.job import JobOperator


class TrainModelOperator(JobOperator):
    """Runs the agent's entrypoint ``train``; a retry goes on from the last checkpoint."""

    verb: ClassVar[str] = "train"
    ui_color = "#fdf1e0"
