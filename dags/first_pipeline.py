"""The pipeline of the README: prepare, train, evaluate behind a gate, save as champion."""

from airflow.sdk import DAG

from airflow_dla import agent
from airflow_dla.operators import EvaluateModelOperator, PrepareDataOperator, SaveModelOperator, TrainModelOperator

code = "airflow_dla.demo.digits_agent"  # a module with three functions; yours lies beside the DAG file
verbs = {verb: f"{code}:{verb}" for verb in ("prepare", "train", "evaluate")}
digits = agent("digits", entrypoints=verbs, request={"cpu": "1-2", "memory": "1GiB"})

with DAG("first_pipeline", schedule=None):
    data = PrepareDataOperator(task_id="prepare", agent=digits, outputs=["train", "test"])
    fit = TrainModelOperator(task_id="train", agent=digits, inputs={"train": data.output["train"]}, outputs=["model"])
    tested = {"model": fit.output["model"], "test": data.output["test"]}
    gate = EvaluateModelOperator(task_id="evaluate", agent=digits, inputs=tested, require={"accuracy": ">= 0.95"})
    saved = {"model": fit.output["model"], "report": gate.output["report"]}
    SaveModelOperator(task_id="save", model="first_digits", inputs=saved, alias="champion")
