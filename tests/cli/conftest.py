"""Commands in this process, on a real workspace, and the ``airflow`` program as a child."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from airflow_dla.cli.definition import get_cli_commands
from airflow_dla.cli.reach import Reach
from airflow_dla.control import Workspace
from airflow_dla.hooks.workspace import open_workspace
from airflow_dla.specs import ExitReason

CONN_ID = "dla_test"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it printed, which must be one JSON document."""
        return json.loads(self.out)


Run = Callable[..., Ended]


@pytest.fixture
def connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlite_url: str) -> str:
    """Return the id of a connection to a fresh workspace."""
    extra = {"ledger": sqlite_url, "store": str(tmp_path / "store"), "jobs_folder": str(tmp_path / "jobs")}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps({"conn_type": "dla", "extra": extra}))
    return CONN_ID


@pytest.fixture
def reach(connection: str) -> Reach:
    """Return the parts of that workspace."""
    return Reach(connection)


@pytest.fixture
def workspace(reach: Reach) -> Iterator[Workspace]:
    """Return this host's workspace, this host its node; whatever still runs at the end is ended."""
    found = open_workspace(reach.settings, "worker")
    yield found
    for runtime in found.runtimes.values():
        for label, alive in runtime.jobs().items():
            if alive:
                runtime.cancel(label, ExitReason.STOPPED)


@pytest.fixture(scope="session")
def parser() -> ArgumentParser:
    """Return Airflow's parser with our commands alone."""
    from airflow.cli.cli_parser import DefaultHelpParser, _add_command  # noqa: PLC0415 - loads every provider's commands

    made = DefaultHelpParser(prog="airflow")
    groups = made.add_subparsers(dest="subcommand")
    for group in get_cli_commands():
        _add_command(groups, group)
    return made


@pytest.fixture
def dla(parser: ArgumentParser, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs ``airflow dla …`` in this process."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")  # what commands set is taken back after the test

    def run(*argv: str) -> Ended:
        capfd.readouterr()
        try:
            args = parser.parse_args(["dla", *argv])
            args.func(args)
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        printed = capfd.readouterr()
        return Ended(status, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def provider_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a PYTHONPATH with which Airflow finds this provider, also where it is not installed."""
    if any(point.value.startswith("airflow_dla") for point in entry_points(group="apache_airflow_provider")):
        return str(ROOT)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = tmp_path_factory.mktemp("installed")
    info = folder / "airflow_dla-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: airflow-dla\nVersion: 0.1.0\n", encoding="utf-8")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
    return os.pathsep.join([str(folder), str(ROOT)])


@pytest.fixture
def airflow(provider_path: str, tmp_path: Path) -> Run:
    """Return a function that runs the ``airflow`` program in a fresh home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
    environ = {**kept, "AIRFLOW_HOME": str(tmp_path / "airflow"), "PYTHONPATH": provider_path, "NO_COLOR": "1"}

    def run(*argv: str, env: dict[str, str] | None = None, stdin: str = "") -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *argv],
            env={**environ, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run
