"""Launches an attempt on a cluster as a follower does, in a process of its own that may be killed at any moment.

python launching_in_pods.py KUBECONFIG NAMESPACE IMAGE WORKSPACE ATTEMPT STORE
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cluster_runtime import runtime_at, small
from clusters import Site, read_config
from contracts.runtime import submitted

import airflow_dla
from airflow_dla.artifacts import Store
from airflow_dla.runtime import Launch

#: Says that it ran, and leaves an output and the secret's length.
WORK = "echo ran; echo $TOKEN | wc -c; sleep 0.2; echo 7 > {outputs.model}/n"


def launch(attempt: str, store: str) -> Launch:
    """Return a job with a secret and an output."""
    return small(["sh", "-c", WORK], attempt, store=store, outputs=("model",), secrets={"TOKEN": "hidden"})


def environment() -> dict[str, str]:
    """Return the environment of such a process."""
    paths = (str(Path(airflow_dla.__file__).parents[1]), str(Path(__file__).parent))
    return {**os.environ, "PYTHONPATH": ":".join(paths)}


if __name__ == "__main__":
    config_, namespace_, image_, workspace_, attempt_, store_ = sys.argv[1:]
    site = Site(read_config(Path(config_)), namespace_, image_, image_)
    submitted(runtime_at(site, workspace_, Store(store_)), launch(attempt_, store_), 100)
