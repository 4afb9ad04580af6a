"""Anybody's operator behind a grant: two unchanged Bash tasks that each want most of this machine take turns.

Both are queued at once. The second waits deferred, without a worker slot, until the first
has given its share back; ``airflow dla why count_again`` says what it waits for.
"""

import os

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

from airflow_dla.operators import granted
from airflow_dla.plugins.weights import JobPriorityWeight

MOST = max(1, len(os.sched_getaffinity(0)) // 2 + 1)

with DAG("granted_operator", schedule=None, default_args={"weight_rule": JobPriorityWeight()}):
    for name in ("count", "count_again"):
        granted(
            BashOperator(task_id=name, bash_command="seq 100 | tail -1"),
            request={"cpu": MOST, "memory": "256MiB"},
            policy={"wait_timeout": "10m"},
        )
