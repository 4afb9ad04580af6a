"""The digits pipeline: prepare → train → evaluate → save → batch inference, each step a job of its own.

A DAG as anybody would write it: it imports no deep-learning framework, since every step
runs in a process of its own, with the CPUs and the memory that it was granted. The code
that runs there is ``digits_agent.py`` beside this file; an edit to it takes effect in
the next run.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_dla import agent, model
from airflow_dla.operators import (
    EvaluateModelOperator,
    InferenceOperator,
    PrepareDataOperator,
    SaveModelOperator,
    TrainModelOperator,
)

digits = agent(
    "digits",
    entrypoints={
        "prepare": "digits_agent:prepare",
        "train": "digits_agent:train",
        "evaluate": "digits_agent:evaluate",
        "infer": "digits_agent:infer",
    },
    request={"cpu": "1-2", "memory": "1GiB"},
)

with DAG(
    dag_id="digits",
    description="Recognise handwritten digits: prepare, train, evaluate, save, infer",
    doc_md=__doc__,
    schedule=None,
    tags=["dla", "demo"],
    params={
        "epochs": Param(20, type="integer", minimum=1, description="Passes over the training images"),
        "seed": Param(0, type="integer", minimum=0, description="The same seed and the same CPUs give the same model"),
    },
    default_args={"retries": 0},
):
    data = PrepareDataOperator(task_id="prepare", agent=digits, outputs=["train", "test"])
    fit = TrainModelOperator(
        task_id="train",
        agent=digits,
        inputs={"train": data.output["train"]},
        outputs=["model"],
        args={"epochs": "{{ params.epochs }}", "seed": "{{ params.seed }}"},
    )
    gate = EvaluateModelOperator(
        task_id="evaluate",
        agent=digits,
        inputs={
            "model": fit.output["model"],
            "test": data.output["test"],
            "champion": model("digits@champion", missing="skip"),
        },
        require={"accuracy": ">= 0.97", "accuracy - champion.accuracy": ">= -0.01"},
    )
    save = SaveModelOperator(
        task_id="save",
        model="digits",
        inputs={"model": fit.output["model"], "report": gate.output["report"]},
        alias="champion",
    )
    InferenceOperator(
        task_id="infer",
        agent=digits,
        inputs={"model": save.output["model"], "data": data.output["test"]},
        outputs=["predictions"],
    )
