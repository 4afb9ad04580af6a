"""A job's whole way in an Airflow task to a real cluster and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import Site
from fixtures_airflow import MakeTask, context

from airflow_dla.errors import JobLost
from airflow_dla.hooks import DlaHook
from airflow_dla.operators import JobOperator

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]


@pytest.fixture
def places(embedded: Path, named_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make a workspace of a local place and a cluster, as one names them; return its identity. Its Jobs are gone at the end."""
    config = named_site.written(tmp_path / "kubeconfig")
    k8s = {"kind": "kubernetes", "kubeconfig": str(config), "namespace": named_site.namespace, "image": named_site.image}
    extra = {"places": {"local": {"kind": "local"}, "k8s": k8s}, "capacity": {"cpu": 1, "memory": "1GiB"}}
    monkeypatch.setenv("AIRFLOW_CONN_LAB", json.dumps({"conn_type": "dla", "extra": extra}))
    DlaHook().workspace()
    identity = DlaHook("lab").workspace().identity
    yield identity
    assert named_site.clear(identity) == []


def run(make_task: MakeTask, **fields: Any) -> tuple[dict[str, Any], str]:
    """Run a task to its end; return its result and the node it was granted."""
    task = make_task(JobOperator, dla_conn_id="lab", deferrable=False, request={"cpu": 0.1, "memory": "128MiB"}, **fields)
    result = task.execute(context("t"))
    attempt = DlaHook("lab").workspace().ledger.jobs(limit=1)[0]
    assert attempt.grant is not None
    return result, attempt.grant.node


def test_a_command_runs_in_its_image(places: str, make_task: MakeTask, named_site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """It was granted a node of the cluster; what it says, measures and made comes back."""
    agent = {"name": "foreign", "image": named_site.image, "metrics": {"acc": "acc=([0-9.]+)"}}
    command = ["sh", "-c", "echo acc=0.75; echo made > /dla/out/out/value.txt"]
    result, node = run(make_task, agent=agent, entrypoint=command, outputs=["out"], policy={"place": "k8s"})
    assert node.startswith("k8s.")
    assert (result["acc"], result["out"]["dla"]) == (0.75, "artifact")
    assert re.search(r"acc=0.75", capsys.readouterr().out)


def test_a_function_beside_the_dag_runs_there(places: str, make_task: MakeTask) -> None:
    """Its code is shipped as it is now."""
    result, node = run(
        make_task, entrypoint="agent_code:write", outputs=["out"], policy={"place": "k8s"}, args={"value": 3, "accuracy": 0.5}
    )
    assert node.startswith("k8s.")
    assert result["accuracy"] == 0.5


def test_what_fails_there_fails_here(places: str, make_task: MakeTask) -> None:
    """The error is the program's own, as of any place."""
    with pytest.raises(Exception, match="the data is empty") as error:
        run(make_task, entrypoint="agent_code:fail", policy={"place": "k8s"})
    assert not isinstance(error.value, JobLost)
