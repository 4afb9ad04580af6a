"""Every snippet of the README is run, or is part of a file that is."""

from __future__ import annotations

import json
import re
import tomllib
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from airflow.sdk import Connection

from airflow_dla.agents import Job
from airflow_dla.cli import allocate, teams
from airflow_dla.hooks import DlaHook
from airflow_dla.hooks.settings import read_settings
from airflow_dla.specs import PlaceSpec

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the README's code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def block(language: str, word: str) -> str:
    """Return the one block that holds a word."""
    (found,) = [text for text in blocks(language) if word in text]
    return str(found)


@pytest.mark.parametrize("name", ["first_pipeline", "bring_your_own_script", "any_image", "granted_operator"])
def test_dags_are_those_that_are_run(name: str) -> None:
    """A DAG of the README is, line by line, one of dags/, which are read and run by the tests beside."""
    code = (ROOT / "dags" / f"{name}.py").read_text(encoding="utf-8")
    _, _, after_docstring = code.split('"""', 2)
    assert block("python", f'DAG("{name}"') == after_docstring.lstrip()


def test_pipeline_has_at_most_fifteen_lines() -> None:
    """The first DAG is short enough to be read at a glance."""
    lines = [line for line in block("python", 'DAG("first_pipeline"').splitlines() if line and "import" not in line]
    assert len(lines) <= 15


def test_own_script_takes_ten_lines() -> None:
    """Bringing one's own script takes ten lines."""
    _, _, body = block("python", 'DAG("bring_your_own_script"').partition("with DAG")
    assert len(body.splitlines()) <= 10


def test_entrypoint_runs_in_a_fake_job(tmp_path: Path) -> None:
    """The function of the README learns a weight, logs and writes it."""
    names: dict[str, Any] = {}
    exec(block("python", "def train(job)"), names)
    points = np.linspace(0, 1, 10)
    np.savez(tmp_path / "points.npz", x=points, y=3 * points)
    job = Job.fake({"train": tmp_path}, {"steps": 200})
    assert names["train"](job)["weight"] == pytest.approx(3.0, abs=0.01)
    assert len(job.logged) == 200
    assert (job.outputs["model"].path / "tensors.safetensors").is_file()


def test_grant_is_held_by_the_hook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The hook's snippet is granted what it asks for, and gives it back."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    exec(block("python", "ResourceAllocationHook"), {})
    assert capsys.readouterr().out.startswith("granted 1 cpu, 0.25 GiB memory on ")
    assert DlaHook().workspace().ledger.leases() == ()


def test_teams_are_applied_as_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The teams of the README change what the README says."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    file = tmp_path / "teams.yaml"
    file.write_text(block("yaml", "reclaim_after"), encoding="utf-8")
    teams.apply(Namespace(conn_id="dla_default", file=str(file), dry_run=True, json=False))
    _, _, shown = block("console", "teams apply").partition("\n")
    assert capfd.readouterr().out.strip() == shown.strip()


def test_allocation_answers_as_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The problem of the README gets the answer of the README."""
    problem = tmp_path / "problem.yaml"
    problem.write_text(block("yaml", "capacity"), encoding="utf-8")
    allocate.allocate(Namespace(file=str(problem), json=False))
    _, _, shown = block("console", "allocate").partition("\n")
    assert capfd.readouterr().out.strip() == shown.strip()


def test_places_are_read_as_shown() -> None:
    """The connection of the README is one, and so is the place with a policy."""
    extra = json.loads(block("json", "docker_default"))
    connection = Connection(conn_id="lab", conn_type="dla", extra=json.dumps(extra))
    registry = Connection(conn_id="docker_default", conn_type="docker", host="r.example", login="me")
    assert [place.name for place in read_settings(connection, {"docker_default": registry}).places] == ["local", "gpu1"]
    assert PlaceSpec.from_mapping({"name": "gpu1", **json.loads(block("json", '"policy"'))}).policy.networks == ("none",)


def test_a_cluster_is_read_as_shown() -> None:
    """The place on Kubernetes of the README is one, and the DAG beside it sends a job there."""
    connection = Connection(conn_id="lab", conn_type="dla", extra=block("json", '"kubernetes"'))
    found = read_settings(connection, {"kubernetes_default": Connection(conn_id="kubernetes_default", conn_type="kubernetes")})
    places = {place.name for place in found.places if place.kind == "kubernetes"}
    names: dict[str, Any] = {}
    exec(block("python", 'DAG("on_a_cluster"').replace("):", ") as dag:"), names)
    (task,) = names["dag"].tasks
    assert task.policy["place"] in places


def test_commands_name_extras_and_files_that_exist() -> None:
    """What the README tells to install is what pyproject.toml and constraints.txt offer."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {extra for extras in re.findall(r"-e '\.\[([a-z,]+)\]'", "\n".join(blocks("bash"))) for extra in extras.split(",")}
    assert named == {"local", "test"}
    assert named <= set(project["optional-dependencies"])
    assert "torch==" in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_files_it_points_to_exist() -> None:
    """Paths in the text lead somewhere."""
    for path in re.findall(r"`((?:airflow_dla|dags)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path
