"""Which commands there are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from airflow_dla.cli.definition import get_cli_commands

EXPECTED = {
    "demo", "deploy", "doctor", "allocate", "simulate", "shadow", "why", "usage", "ledger upgrade", "ledger status",
    "nodes declare", "nodes list", "nodes remove", "teams apply", "teams list",
    "agents list", "agents show", "agents check", "jobs list", "jobs show", "jobs logs", "jobs stop", "jobs priority",
    "jobs exec", "jobs rerun",
    "models list", "models show", "models promote", "models rollback", "artifacts verify", "artifacts gc",
    "forecast show", "forecast refresh",
}  # fmt: skip
WITHOUT_WORKSPACE = {"demo", "deploy", "allocate", "shadow", "agents check"}
#: What it prints is another program's.
WITHOUT_JSON = {"jobs exec"}


def leaves(commands: Iterable[Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command with its path."""
    for found in commands:
        if hasattr(found, "subcommands"):
            yield from leaves(found.subcommands, f"{path}{found.name} ")
        else:
            yield f"{path}{found.name}", found


COMMANDS = dict(leaves(get_cli_commands()[0].subcommands))


def test_every_command_is_there() -> None:
    """The group holds what the documentation names."""
    assert set(COMMANDS) == EXPECTED


@pytest.mark.parametrize("path", sorted(EXPECTED))
def test_every_command_speaks_json_and_names_its_workspace(path: str) -> None:
    """Each takes --json, and --conn-id where it has a workspace."""
    flags = {flag for arg in COMMANDS[path].args for flag in arg.flags}
    assert ("--json" in flags) is (path not in WITHOUT_JSON)
    assert ("--conn-id" in flags) is (path not in WITHOUT_WORKSPACE)


def test_definitions_load_no_command() -> None:
    """Parsing a command line of Airflow's own loads nothing of ours but words."""
    code = """
import sys, airflow.cli.cli_config
before = set(sys.modules)
import airflow_dla.cli.definition as definition
definition.get_cli_commands()
print(*(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not {"numpy", "scipy", "torch", "sqlalchemy", "alembic", "fsspec", "yaml"} & loaded
    assert {name.split(".")[1] for name in loaded if name.startswith("airflow_dla.")} <= {"cli", "specs", "errors"}


def test_bad_arguments_are_usage_errors(dla: Any) -> None:
    """What breaks an argument's rule ends with status 2."""
    for argv in (
        ["models", "promote", "m", "three"],
        ["jobs", "list", "--limit", "-1"],
        ["artifacts", "gc", "--grace", "soon"],
        ["jobs", "rerun", "j"],
        ["jobs", "rerun", "j", "--here", "--set", "lr"],
        ["nothing"],
    ):
        assert dla(*argv).status == 2
