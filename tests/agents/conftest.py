"""The runner alone: a job's folder, one process, what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import airflow_dla

AGENTS = Path(airflow_dla.__file__).parent / "agents"


@dataclass(frozen=True)
class Ran:
    """What a runner did."""

    folder: Path
    code: int
    log: bytes
    lines: list[dict[str, Any]]

    def error(self) -> dict[str, Any]:
        """Return the last line of kind error."""
        return [line for line in self.lines if line["kind"] == "error"][-1]

    def metrics(self) -> dict[str, Any]:
        """Return the last value of each metric."""
        return {name: value for line in self.lines if line["kind"] == "metric" for name, value in line["values"].items()}


def write_job(folder: Path, entrypoint: Any, **fields: Any) -> None:
    """Write a job's file as a runtime does."""
    given = {
        "attempt": "job.1",
        "nonce": "n0",
        "entrypoint": entrypoint,
        "grant": {"amounts": {"cpu": 1}},
        "store": "",
        "checkpoint": "job",
    }
    (folder / "job.json").write_text(json.dumps({**given, **fields}))


@pytest.fixture
def run_job(tmp_path: Path) -> Callable[..., Ran]:
    """Return a function that writes code and job.json and runs the runner to its end."""

    def run_job_(code: str = "", entrypoint: Any = "work:main", python: str = sys.executable, agents: Path = AGENTS, **fields: Any) -> Ran:
        (tmp_path / "code").mkdir(exist_ok=True)
        (tmp_path / "code" / "work.py").write_text(textwrap.dedent(code))
        write_job(tmp_path, entrypoint, **fields)
        (tmp_path / "metrics.jsonl").unlink(missing_ok=True)
        log = tmp_path / "log"
        with log.open("wb+") as file:
            env = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
            code_ = subprocess.run([python, str(agents), "run", str(tmp_path)], stdout=file, stderr=file, env=env, check=False).returncode
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        return Ran(tmp_path, code_, log.read_bytes(), lines)

    return run_job_
