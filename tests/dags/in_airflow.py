"""
Programs for an Airflow home of their own, run as ``python in_airflow.py HOME COMMAND …``; each prints one JSON document.

``imports FILE …``
    reads DAG files with the network cut off.
``run FILE DAG``
    runs a DAG.
``edit_between FILE DAG SCRIPT OLD NEW``
    runs a DAG, replaces a text in one of its scripts, and runs it again.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn


def enter(home: Path) -> None:
    """Make a home whose DAGs folder is ``home/dags``, before Airflow is imported; its workspace may be given as ``DLA_TEST_CONNECTION``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
    os.environ.clear()
    if "DLA_TEST_CONNECTION" in kept:
        kept["AIRFLOW_CONN_DLA_DEFAULT"] = kept["DLA_TEST_CONNECTION"]
    os.environ.update(kept, AIRFLOW_HOME=str(home), AIRFLOW__CORE__LOAD_EXAMPLES="False", AIRFLOW__CORE__DAGS_FOLDER=str(home / "dags"))


def imports(*files: str) -> dict[str, Any]:
    """Read DAG files without a network; return errors and DAGs of each."""

    def refuse(_socket: socket.socket, address: object) -> NoReturn:
        raise OSError(f"the network is cut off, {address} cannot be reached")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.socket.connect_ex = refuse  # type: ignore[method-assign]
    from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415 - reads the environment

    bags = {file: DagBag(file) for file in files}
    return {
        file: {"errors": list(bag.import_errors.values()), "dags": {name: sorted(dag.task_ids) for name, dag in bag.dags.items()}}
        for file, bag in bags.items()
    }


def run(file: str, dag_id: str) -> dict[str, Any]:
    """Run a DAG; return what it came to."""
    from airflow.utils.db import initdb  # noqa: PLC0415 - reads the environment

    initdb()
    return _run(file, dag_id)


def edit_between(file: str, dag_id: str, script: str, old: str, new: str) -> list[dict[str, Any]]:
    """Run a DAG twice with an edit in between; return what each run came to."""
    first = run(file, dag_id)
    text = Path(script).read_text(encoding="utf-8")
    assert old in text, f"{script} does not hold {old!r}"
    Path(script).write_text(text.replace(old, new), encoding="utf-8")
    return [first, _run(file, dag_id)]


def _run(file: str, dag_id: str) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415 - reads the environment

    from airflow_dla.hooks import DlaHook  # noqa: PLC0415 - reads the environment

    ended = DagBag(file).dags[dag_id].test(run_conf=json.loads(os.environ.get("DLA_TEST_CONF", "{}")))
    jobs = {attempt.spec.key.task: attempt for attempt in DlaHook().workspace().ledger.jobs() if attempt.spec.key.run == ended.run_id}
    return {
        "states": {ti.task_id: str(ti.state) for ti in ended.get_task_instances()},
        "codes": {task: attempt.spec.code.digest if attempt.spec.code else None for task, attempt in jobs.items()},
        "metrics": {task: dict(attempt.exit.metrics) for task, attempt in jobs.items() if attempt.exit},
        "inputs": {task: {name: ref.to_mapping() for name, ref in attempt.spec.inputs.items()} for task, attempt in jobs.items()},
        "outputs": {
            task: {name: ref.digest for name, ref in attempt.exit.outputs.items()} for task, attempt in jobs.items() if attempt.exit
        },
    }


COMMANDS: dict[str, Callable[..., Any]] = {"imports": imports, "run": run, "edit_between": edit_between}

if __name__ == "__main__":
    _, where, command, *arguments = sys.argv
    enter(Path(where))
    document = os.dup(1)
    os.dup2(2, 1)  # whatever Airflow prints is not the document
    answer = COMMANDS[command](*arguments)
    os.write(document, json.dumps(answer).encode())
