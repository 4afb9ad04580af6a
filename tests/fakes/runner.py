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

import airflow_dla

AGENTS = Path(airflow_dla.__file__).parent / "agents"


@dataclass(frozen=True, slots=True)
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


RunJob = Callable[..., Ran]


def run_runner(folder: Path, code: str, entrypoint: Any, *, python: str = sys.executable, agents: Path = AGENTS, **fields: Any) -> Ran:
    """Write code and job.json as a runtime does, and run the runner to its end."""
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "work.py").write_text(textwrap.dedent(code))
    given = {"attempt": "job.1", "nonce": "n0", "grant": {"amounts": {"cpu": 1}}, "store": "", "checkpoint": "job", **fields}
    (folder / "job.json").write_text(json.dumps({"entrypoint": entrypoint, **given}))
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    env = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    with (folder / "log").open("wb+") as log:
        status = subprocess.run([python, str(agents), "run", str(folder)], stdout=log, stderr=log, env=env, check=False).returncode
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return Ran(folder, status, (folder / "log").read_bytes(), lines)
