"""The verb *infer*: from data and a model to predictions, in batch."""

from __future__ import annotations

from typing import ClassVar

from airflow_dla.operators.job import JobOperator


class InferenceOperator(JobOperator):
    """Runs the agent's entrypoint ``infer``; ``inputs={"model": model("digits@champion"), …}``."""

    verb: ClassVar[str] = "infer"
    ui_color = "#ece8fb"
