"""Bring your own script: ``scripts/train.py`` knows nothing of Airflow or of us, and runs unchanged.

Its arguments become flags, ``{inputs.…}``, ``{outputs.…}`` and ``{checkpoint}`` become
paths, and its metrics are read from what it prints. The folder ``scripts`` is shipped
with every run, so an edit takes effect in the next run without any build.
"""

from pathlib import Path

from airflow.sdk import DAG

from airflow_dla import agent, uri
from airflow_dla.operators import JobOperator

with DAG("bring_your_own_script", schedule=None):
    JobOperator(
        task_id="train",
        agent=agent("points", code="scripts", metrics={"val_acc": r"val_acc=(\S+)"}),
        entrypoint=["python", "train.py"],
        args={"epochs": 200, "lr": 2.0, "data": "{inputs.points}", "out": "{outputs.model}", "ckpt": "{checkpoint}"},
        inputs={"points": uri(str(Path(__file__).parent / "data" / "points.csv"))},
        outputs=["model"],
        request={"cpu": 1, "memory": "512MiB"},
    )
