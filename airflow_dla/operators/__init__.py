"""Operators: each starts a job of an agent, waits for it and returns references.

`JobOperator` runs any entrypoint; the verbs are presets of a few lines:
`PrepareDataOperator`, `TrainModelOperator`, `EvaluateModelOperator` (report and gate),
`SaveModelOperator` (model version and alias) and `InferenceOperator` (batch). Where a
job runs is a value, its place, and never another class. `granted` puts an operator of
anybody else's behind a grant.
"""

from airflow_dla.operators.evaluate_model import EvaluateModelOperator
from airflow_dla.operators.granted import granted
from airflow_dla.operators.infer import InferenceOperator
from airflow_dla.operators.job import JobOperator
from airflow_dla.operators.prepare_data import PrepareDataOperator
from airflow_dla.operators.save_model import SaveModelOperator
from airflow_dla.operators.train_model import TrainModelOperator

__all__ = [
    "EvaluateModelOperator",
    "InferenceOperator",
    "JobOperator",
    "PrepareDataOperator",
    "SaveModelOperator",
    "TrainModelOperator",
    "granted",
]
