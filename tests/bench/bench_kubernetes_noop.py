"""What our operator costs beside Airflow's own on Kubernetes: a command that does nothing, in one process, on one cluster, in turn.

Usage: ``python tests/bench/bench_kubernetes_noop.py [ROUNDS]`` (20 by default; with the repository's root and ``tests`` on
PYTHONPATH). ``DLA_TEST_KUBECONFIG``, ``DLA_TEST_IMAGE`` and ``DLA_TEST_NAMESPACE`` name a cluster, an image that its nodes have or
can fetch, and a namespace. Both operators run ``true`` synchronously, by ``execute(context)``; wall seconds, since most
of it is the cluster's work.
"""

from __future__ import annotations

import atexit
import copy
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

_HOME = tempfile.mkdtemp(prefix="dla-noop-", dir="/var/tmp")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.update(AIRFLOW_HOME=_HOME, AIRFLOW__CORE__LOAD_EXAMPLES="False", AIRFLOW__CORE__UNIT_TEST_MODE="True")

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator  # noqa: E402 - Airflow reads its home when imported
from airflow.sdk import DAG  # noqa: E402
from fixtures_airflow import context  # noqa: E402
from side_by_side import report  # noqa: E402

from airflow_dla.hooks import DlaHook  # noqa: E402
from airflow_dla.operators import JobOperator  # noqa: E402

KUBECONFIG, IMAGE, NAMESPACE = (os.environ.get(f"DLA_TEST_{name}", "") for name in ("KUBECONFIG", "IMAGE", "NAMESPACE"))


def main(rounds: int) -> None:
    """Run both in turn and print medians and their ratio."""
    if not (KUBECONFIG and IMAGE and NAMESPACE):
        sys.exit("name a cluster: DLA_TEST_KUBECONFIG, DLA_TEST_IMAGE, DLA_TEST_NAMESPACE")
    logging.disable(logging.INFO)
    place = {"kind": "kubernetes", "kubeconfig": KUBECONFIG, "namespace": NAMESPACE}
    os.environ["AIRFLOW_CONN_LAB"] = json.dumps({"conn_type": "dla", "extra": {"places": {"cluster": place}}})
    DlaHook().workspace()  # makes the ledger of this home
    ours, theirs = operators()
    times: dict[str, list[float]] = {"ours": [], "KubernetesPodOperator": []}
    for number in range(rounds + 1):
        for what, run in (("ours", ours), ("KubernetesPodOperator", theirs)):
            began = time.perf_counter()
            run(number)
            if number:  # the first is the warming up of both
                times[what].append(time.perf_counter() - began)
    sys.stdout.write(f"{report(times)}\n")


def operators() -> tuple[Callable[[int], Any], Callable[[int], Any]]:
    """Return what runs a round of each."""
    with DAG("noop", schedule=None):
        dla = JobOperator(
            task_id="dla", dla_conn_id="lab", deferrable=False, request={"cpu": 0.1, "memory": "64MiB"},
            agent={"name": "noop", "image": IMAGE, "code": None}, entrypoint=["true"],
        )  # fmt: skip
        pod = KubernetesPodOperator(
            task_id="pod", config_file=KUBECONFIG, in_cluster=False, namespace=NAMESPACE, image=IMAGE, cmds=["true"],
            container_resources={"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
            on_finish_action="keep_pod", image_pull_policy="IfNotPresent", do_xcom_push=False,
        )  # fmt: skip

    def ours(number: int) -> Any:
        dla.__dict__.pop("hook", None)
        return dla.execute(context("dla", dag_id="noop", run_id=f"r{number}"))

    def theirs(number: int) -> Any:
        task = copy.copy(pod)  # it remembers its pod
        given = context("pod", dag_id="noop", run_id=f"r{number}")
        return task.execute({**given, "run_id": f"r{number}", "dag": pod.dag})

    return ours, theirs


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
