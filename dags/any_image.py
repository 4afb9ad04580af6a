"""Any image, nothing of ours inside: a shell counts the lines of a file, in an image that has not even a Python.

It needs a workspace with a container engine, see "In a container" in the README. Inputs
are in ``/dla/in``, outputs go to ``/dla/out``, metrics are read from what it prints.
"""

from pathlib import Path

from airflow.sdk import DAG

from airflow_dla import agent, uri
from airflow_dla.operators import JobOperator

with DAG("any_image", schedule=None, params={"image": "busybox:1.36"}):
    JobOperator(
        task_id="count",
        agent=agent("count", image="{{ params.image }}", code=None, metrics={"lines": r"lines=(\d+)"}),
        entrypoint=[
            "sh",
            "-ec",
            "wc -l < /dla/in/points/points.csv > /dla/out/count/lines.txt; echo lines=$(cat /dla/out/count/lines.txt)",
        ],
        inputs={"points": uri(str(Path(__file__).parent / "data" / "points.csv"), mode="copy")},
        outputs=["count"],
        request={"cpu": 0.5, "memory": "64MiB"},
    )
