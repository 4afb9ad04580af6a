"""The demo as a person runs it: a child process, whatever the environment says."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from system.processes import eventually

ROOT = Path(__file__).parents[2]
STEPS = ("prepare", "train", "evaluate", "save", "infer")
pytestmark = [pytest.mark.system, pytest.mark.timeout(360)]


@dataclass(frozen=True)
class Demo:
    """Two runs of the demo in one home, beside another Airflow's home."""

    home: Path
    first: Mapping[str, Any]
    second: Mapping[str, Any]
    progress: str
    other_before: Mapping[str, str]
    other_after: Mapping[str, str]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run the demo twice, by the command where it exists, in an environment that points elsewhere."""
    folder = tmp_path_factory.mktemp("demo")
    home, other = folder / "home", folder / "other"
    other.mkdir()
    (other / "airflow.db").write_bytes(b"somebody's database")
    (other / "airflow.cfg").write_text("[core]\n", encoding="utf-8")
    before = contents(other)
    hostile = {
        **{name: value for name, value in os.environ.items() if name != "AIRFLOW__CORE__UNIT_TEST_MODE"},
        "AIRFLOW_HOME": str(other),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{other}/airflow.db",
        "AIRFLOW__CORE__DAGS_FOLDER": str(other / "dags"),
        "AIRFLOW_CONN_DLA_DEFAULT": "dla://nowhere?store=/nowhere",
        "AIRFLOW_VAR_X": "y",
        "PYTHONPATH": str(ROOT),
    }
    first = run_demo(home, hostile)
    # The second time without the command around it, whose own start is Airflow's.
    second = run_demo(home, hostile, direct=True)
    return Demo(home, json.loads(first.stdout), json.loads(second.stdout), second.stderr, before, contents(other))


def run_demo(home: Path, env: Mapping[str, str], *, direct: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the demo once; its status must be 0."""
    command = ["airflow", "dla", "demo"] if importlib.util.find_spec("airflow_dla.cli.definition") and not direct else ["airflow_dla.demo"]
    program = [sys.executable, "-m", *command, "--home", str(home), "--json"]
    done = subprocess.run(program, env=dict(env), capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def contents(folder: Path) -> dict[str, str]:
    """Return a digest of every file."""
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_step_succeeds_and_the_model_is_good(demo: Demo) -> None:
    """The report has the promised keys, every step succeeded, and the held-out accuracy is at least 0.97."""
    assert list(demo.first) == ["accuracy", "version", "digest", "wall_s", "steps"]
    assert demo.first["accuracy"] >= 0.97
    assert demo.first["version"] == 1
    assert [step["name"] for step in demo.first["steps"]] == list(STEPS)
    assert {step["state"] for step in demo.first["steps"]} == {"success"}


def test_every_step_was_granted_something_with_a_reason(demo: Demo) -> None:
    """Each step says how long it took, what it was granted, and why that much."""
    for step in demo.first["steps"]:
        assert list(step) == ["name", "state", "seconds", "granted", "reason"]
        assert 0 < step["seconds"] < demo.first["wall_s"]
        assert step["granted"]["cpu"] >= 1
        assert step["granted"]["memory"] > 0
        assert step["reason"]


def test_a_second_run_makes_the_same_model_and_the_next_version(demo: Demo) -> None:
    """The same seed and the same CPUs give the same bytes; the registry counts on."""
    assert demo.second["version"] == 2
    assert demo.second["digest"] == demo.first["digest"]
    assert demo.second["accuracy"] == demo.first["accuracy"]


def test_progress_has_one_line_for_each_step(demo: Demo) -> None:
    """On stderr there is one line for each step: name, state, seconds, what was granted."""
    lines = [line.split() for line in demo.progress.splitlines() if line.startswith("  ")]
    assert [line[:2] for line in lines] == [[name, "success"] for name in STEPS]
    assert all("cpu," in line for line in lines)


def test_another_installation_stays_as_it_was(demo: Demo) -> None:
    """The inherited Airflow home is byte-identical afterwards."""
    assert demo.other_after == demo.other_before


def test_task_logs_lie_where_the_web_ui_reads_them(demo: Demo) -> None:
    """Each try's log file holds lines of JSON: the operator's and the job's own."""
    found = {step: sorted((demo.home / "logs" / "dag_id=digits").glob(f"run_id=*/task_id={step}/attempt=1.log")) for step in STEPS}
    assert {step: len(logs) for step, logs in found.items()} == dict.fromkeys(STEPS, 2)
    events = [json.loads(line) for line in found["train"][0].read_text(encoding="utf-8").splitlines()]
    said = [event["event"] for event in events]
    assert all(event["timestamp"] and event["level"] for event in events)
    assert any(line.startswith("Granted ") for line in said)
    assert any(line.startswith("step 20: loss=") for line in said)
    assert not any("DAG TEST" in line for line in said)


def test_files_are_there_to_look_at(demo: Demo) -> None:
    """The home has the DAG, its agent, and private settings."""
    assert {path.name for path in (demo.home / "dags").glob("*.py")} == {"digits.py", "digits_agent.py"}
    assert (demo.home / "airflow.cfg").stat().st_mode & 0o077 == 0


def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path) -> None:
    """SIGTERM in the middle of the training stops the job, ends the run as failed, and the demo says so."""
    program = [sys.executable, "-m", "airflow_dla.demo", "--home", str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        eventually(lambda: list(tmp_path.glob("logs/dag_id=digits/run_id=*/task_id=train/attempt=1.log")), timeout=150, what="training")
        child.send_signal(signal.SIGTERM)
        said, _ = child.communicate(timeout=90)
    assert child.returncode == 130, said
    assert "interrupted; what ran was stopped" in said
    assert not [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and str(tmp_path) in command_line(pid)]


def command_line(process: Path) -> str:
    """Return a process's command line, empty when it is gone."""
    try:
        return (process / "cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
