"""Every example in dags/, and the demo's DAG."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from docker_daemon import Engine

from airflow_dla.ledger import connect

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "dags").glob("*.py"), ROOT / "airflow_dla" / "demo" / "digits.py"])


def in_airflow(home: Path, command: str, *arguments: str, **more: str) -> Any:
    """Run one of in_airflow.py's programs in a home of its own, with more variables; return its document."""
    program = [sys.executable, str(Path(__file__).with_name("in_airflow.py")), str(home), command, *arguments]
    done = subprocess.run(program, capture_output=True, text=True, timeout=110, check=False, cwd=ROOT, env=_with_root() | more)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def copied(home: Path) -> Path:
    """Copy dags/ to a home's DAGs folder, as a person does; return that."""
    return Path(shutil.copytree(ROOT / "dags", home / "dags", ignore=shutil.ignore_patterns("__pycache__")))


def _with_root() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Read all DAG files in one process whose network is cut off."""
    return in_airflow(tmp_path_factory.mktemp("home"), "imports", *map(str, FILES))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_dag_file_is_read_without_network(read: Any, file: Path) -> None:
    """A DAG file imports without an error, without a network, and defines a DAG that has tasks."""
    assert read[str(file)]["errors"] == []
    assert all(read[str(file)]["dags"].values())
    assert read[str(file)]["dags"]


def test_digits_pipeline_has_its_five_steps(read: Any) -> None:
    """The demo's DAG prepares, trains, evaluates, saves and infers."""
    assert read[str(ROOT / "airflow_dla" / "demo" / "digits.py")]["dags"] == {"digits": ["evaluate", "infer", "prepare", "save", "train"]}


@pytest.mark.system
def test_first_pipeline_runs(tmp_path: Path) -> None:
    """The README's pipeline prepares, trains, holds its gate and saves."""
    dags = copied(tmp_path)
    ran = in_airflow(tmp_path, "run", str(dags / "first_pipeline.py"), "first_pipeline")
    assert ran["states"] == dict.fromkeys(["prepare", "train", "evaluate", "save"], "success")
    assert ran["metrics"]["evaluate"]["accuracy"] >= 0.95


@pytest.mark.system
def test_own_script_runs_unchanged_and_an_edit_takes_effect(tmp_path: Path) -> None:
    """A script that knows nothing of us runs by JobOperator; an edit is in the next run, and the lineage shows it."""
    dags = copied(tmp_path)
    before, after = in_airflow(
        tmp_path,
        "edit_between",
        str(dags / "bring_your_own_script.py"),
        "bring_your_own_script",
        str(dags / "scripts" / "train.py"),
        "for j in range(4 - i)",
        "for j in range(2 - i)",
    )
    assert before["states"] == after["states"] == {"train": "success"}
    assert before["codes"]["train"] != after["codes"]["train"]
    assert before["metrics"]["train"]["val_acc"] > after["metrics"]["train"]["val_acc"] > 0.5
    assert before["outputs"]["train"]["model"] != after["outputs"]["train"]["model"]
    assert before["inputs"]["train"]["points"]["pin"] == after["inputs"]["train"]["points"]["pin"] != {}


@pytest.mark.system
def test_granted_operators_run(tmp_path: Path) -> None:
    """Operators that are not ours run behind their grants."""
    dags = copied(tmp_path)
    ran = in_airflow(tmp_path, "run", str(dags / "granted_operator.py"), "granted_operator")
    assert ran["states"] == dict.fromkeys(["count", "count_again"], "success")


@pytest.mark.system
def test_any_image_runs(tmp_path: Path, docker_engine: Engine, bare_image: str) -> None:
    """A command in an image without Python reads its input, publishes its output and is measured by what it prints."""
    dags, ledger = copied(tmp_path), f"sqlite:///{tmp_path}/ledger.db"
    upgraded = connect(ledger)
    upgraded.upgrade()
    mine = f"dla.workspace={upgraded.identity()}"
    upgraded.close()
    with tempfile.TemporaryDirectory(prefix="dla-files-", dir="/var/tmp") as files:
        places = {"gpu1": {"kind": "docker", "url": docker_engine.host, "folder": files}}
        workspace = {"conn_type": "dla", "extra": {"ledger": ledger, "places": places}}
        more = {"DLA_TEST_CONNECTION": json.dumps(workspace), "DLA_TEST_CONF": json.dumps({"image": bare_image})}
        ran = in_airflow(tmp_path, "run", str(dags / "any_image.py"), "any_image", **more)
    with docker_engine.client() as client:
        for container in client.containers(all=True, filters={"label": mine}):
            client.remove_container(container["Id"], force=True)
    assert ran["states"] == {"count": "success"}
    lines = len((dags / "data" / "points.csv").read_text().splitlines())
    assert ran["metrics"]["count"] == {"lines": lines}
    assert ran["outputs"]["count"]["count"]
