"""Two tasks of somebody else's operator behind a grant: each wants the whole machine."""

from __future__ import annotations

import os

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

from airflow_dla.operators import granted
from airflow_dla.plugins.weights import JobPriorityWeight

COMMAND = "echo begin >> $TRACE; while [ ! -e $TRACE.go ]; do sleep 0.2; done; echo end >> $TRACE"

with DAG("granted", schedule=None, params={"trace": ""}, max_active_runs=1):
    for name in ("one", "other"):
        granted(
            BashOperator(
                task_id=name,
                bash_command=COMMAND,
                env={"TRACE": "{{ dag_run.conf['trace'] }}"},
                append_env=True,
                weight_rule=JobPriorityWeight(),
            ),
            request={"cpu": len(os.sched_getaffinity(0))},
        )
