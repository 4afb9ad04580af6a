"""``airflow dla agents``: what the ledger knows, and whether a description holds."""

from __future__ import annotations

import importlib
import json
import re
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, Final

from airflow_dla.cli.answer import Answer, table
from airflow_dla.cli.documents import read_document
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import command
from airflow_dla.control import check_entrypoint
from airflow_dla.errors import InvalidSpec, NotFound
from airflow_dla.specs import AgentSpec, Entrypoint
from airflow_dla.specs.spec import templated

_PYTHON: Final = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")


@command
def list_agents(args: Namespace) -> Answer:
    """List agents by name."""
    agents = Reach(args.conn_id).ledger.agents()
    rows = [(agent.name, ", ".join(agent.entrypoints) or None, agent.image) for agent in agents]
    return Answer({"agents": [agent.to_mapping() for agent in agents]}, table(["NAME", "ENTRYPOINTS", "IMAGE"], rows, empty="no agent"))


@command
def show(args: Namespace) -> Answer:
    """Show one agent as its author wrote it."""
    agents = {agent.name: agent for agent in Reach(args.conn_id).ledger.agents()}
    if args.name not in agents:
        raise NotFound(
            f"there is no agent {args.name!r}; known are {', '.join(agents) or 'none'}; an agent is known once a task has used it"
        )
    return _described(agents[args.name].to_mapping())


@command
def check(args: Namespace) -> Answer:
    """Check a description, and that its code defines its entrypoints, importing none of them."""
    raw, folder = _read(args.source)
    agent = AgentSpec.draft(raw, args.source)
    code = agent.get("code", ".")
    for verb, entrypoint in agent.get("entrypoints", {}).items():
        if code is not None and not templated([code, entrypoint]):
            check_entrypoint(Entrypoint.parse(entrypoint, f"{args.source}.entrypoints.{verb}"), folder / code)
    return _described(agent)


def _described(agent: dict[str, Any]) -> Answer:
    return Answer(agent, json.dumps(agent, indent=2, ensure_ascii=False))


def _read(source: str) -> tuple[Any, Path]:
    """Return a raw description and the folder that its code is relative to."""
    named = _PYTHON.fullmatch(source)
    if named is None or Path(source).exists():
        return read_document(source), Path(source).absolute().parent
    return _python_value(named[1], named[2])


def _python_value(module: str, name: str) -> tuple[Any, Path]:
    sys.path.insert(0, str(Path.cwd()))
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        raise InvalidSpec(f"module {module!r} cannot be imported from {Path.cwd()}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not hasattr(loaded, name):
        raise NotFound(f"module {module!r} ({loaded.__file__}) does not define {name!r}")
    return getattr(loaded, name), Path(loaded.__file__ or "").absolute().parent
