"""``airflow dla models``: versions, and the aliases that say which one to use."""

from __future__ import annotations

import dataclasses
import getpass
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from airflow_dla.cli.answer import Answer, metrics, table, when
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import command
from airflow_dla.errors import NotFound
from airflow_dla.ledger import Alias, ModelVersion
from airflow_dla.registry import Promotion, Registry


@command
def list_models(args: Namespace) -> Answer:
    """List models with their newest version and their aliases."""
    registry = Reach(args.conn_id).registry
    versions, aliases = registry.versions(), registry.aliases()
    names = sorted({version.model for version in versions})
    models = [_summary(name, versions, aliases) for name in names]
    rows = [(model["model"], model["versions"], model["latest"], _aliases_text(model["aliases"])) for model in models]
    return Answer({"models": models}, table(["MODEL", "VERSIONS", "LATEST", "ALIASES"], rows, empty="no model"))


@command
def show(args: Namespace) -> Answer:
    """Show the versions of a model, newest first, and what happened to its aliases."""
    registry = Reach(args.conn_id).registry
    versions, aliases, moves = registry.versions(args.model), registry.aliases(args.model), registry.log(args.model)
    if not versions:
        raise _unknown(registry, args.model)
    document = {
        "model": args.model,
        "aliases": {alias.alias: alias.number for alias in aliases},
        "versions": [_version(version) for version in versions],
        "log": [dataclasses.asdict(move) for move in moves],
    }
    made = [
        (version.number, _holders(version, aliases), metrics(version.metrics), when(version.created_at), version.digest)
        for version in versions
    ]
    moved = [(when(move.at), move.alias, move.old, move.new, move.by, move.why or None) for move in moves]
    text = f"{table(['VERSION', 'ALIASES', 'METRICS', 'CREATED', 'DIGEST'], made)}\n\n" + table(
        ["AT", "ALIAS", "FROM", "TO", "BY", "WHY"], moved, empty="no alias was ever moved"
    )
    return Answer(document, text)


@command
def promote(args: Namespace) -> Answer:
    """Point an alias at a version, in a person's name."""
    by, registry = getpass.getuser(), Reach(args.conn_id).registry
    return _promoted(registry.promote(args.model, args.version, args.alias, interval_end=None, by=by, why=args.why, force=args.force))


@command
def rollback(args: Namespace) -> Answer:
    """Point an alias at the version that held it before."""
    return _promoted(Reach(args.conn_id).registry.rollback(args.model, args.alias, by=getpass.getuser(), why=args.why))


def _promoted(promotion: Promotion) -> Answer:
    return Answer(dataclasses.asdict(promotion), promotion.reason)


def _unknown(registry: Registry, model: str) -> NotFound:
    known = sorted({version.model for version in registry.versions()})
    return NotFound(f"there is no model {model!r}; known are {', '.join(known) or 'none'}")


def _summary(name: str, versions: Sequence[ModelVersion], aliases: Sequence[Alias]) -> dict[str, Any]:
    numbers = [version.number for version in versions if version.model == name]
    held = {alias.alias: alias.number for alias in aliases if alias.model == name}
    return {"model": name, "versions": len(numbers), "latest": max(numbers), "aliases": held}


def _aliases_text(aliases: dict[str, int]) -> str | None:
    return ", ".join(f"{alias}@{number}" for alias, number in aliases.items()) or None


def _holders(version: ModelVersion, aliases: Sequence[Alias]) -> str | None:
    return ", ".join(alias.alias for alias in aliases if alias.number == version.number) or None


def _version(version: ModelVersion) -> dict[str, Any]:
    found = dataclasses.asdict(version)
    return {"version": found.pop("number"), **{name: value for name, value in found.items() if name != "model"}}
