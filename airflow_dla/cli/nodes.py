"""``airflow dla nodes``: what there is to grant, here and on machines that only are declared."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any, Final

from airflow_dla.cli.answer import Answer, table, when
from airflow_dla.cli.documents import read_document
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import command
from airflow_dla.errors import InvalidSpec, NotFound
from airflow_dla.ledger import NodeRow, Snapshot
from airflow_dla.specs import Node, describe_amounts
from airflow_dla.specs.values import mapping

_HEADER: Final = ("NODE", "PLACE", "KIND", "CAPACITY", "GRANTED", "LABELS", "HEARD OF")


@command
def list_nodes(args: Namespace) -> Answer:
    """List nodes with what is granted of them."""
    reach = Reach(args.conn_id)
    rows, seen = reach.ledger.nodes(), reach.ledger.snapshot()
    kinds = {place.name: place.kind for place in reach.settings.places}
    documents = [{**_document(row, seen), "kind": kinds.get(row.node.place, "declared")} for row in rows]
    return Answer({"nodes": documents}, table(_HEADER, map(_row, documents), empty="no node"))


@command
def declare(args: Namespace) -> Answer:
    """Register the nodes of a file; jobs are launched there by somebody else's operator behind `granted`."""
    given = mapping(read_document(args.file), args.file)
    nodes = [_read(name, raw, f"{args.file}: {name}") for name, raw in given.items()]
    ledger = Reach(args.conn_id).ledger
    for node in nodes:
        ledger.register_node(node)
    names = [node.name for node in nodes]
    return Answer({"declared": names}, f"declared {', '.join(names) or 'nothing'}")


@command
def remove(args: Namespace) -> Answer:
    """Take a node out; what is granted there stays charged to it until it ends."""
    ledger = Reach(args.conn_id).ledger
    if args.name not in {row.node.name for row in ledger.nodes()}:
        raise NotFound(f"there is no node {args.name!r}; `airflow dla nodes list` shows those there are")
    ledger.remove_node(args.name)
    return Answer({"removed": args.name}, f"removed {args.name}")


def _read(name: str, raw: object, where: str) -> Node:
    given = dict(mapping(raw, where))
    if given.get("place", "declared") == "local":
        raise InvalidSpec(f"{where}.place must not be 'local': a worker's host registers itself as a local node; name another place")
    return Node.from_mapping({"place": "declared", **given, "name": name}, where)


def _document(row: NodeRow, seen: Snapshot) -> dict[str, Any]:
    amounts = [grant.amounts for grant in seen.live if grant.node == row.node.name]
    used = {resource: sum(one.get(resource, 0.0) for one in amounts) for resource in row.node.capacity}
    return {**row.node.to_mapping(), "place": row.node.place, "granted": used, "seen_at": row.seen_at, "silent_since": row.silent_since}


def _row(found: Mapping[str, Any]) -> tuple[object, ...]:
    labels = ", ".join(f"{key}={value}" for key, value in found.get("labels", {}).items())
    heard = f"silent since {when(found['silent_since'])}" if found["silent_since"] else when(found["seen_at"])
    granted = {resource: amount for resource, amount in found["granted"].items() if amount}
    amounts = describe_amounts(found["capacity"]), describe_amounts(granted) or None
    return found["name"], found["place"], found["kind"], *amounts, labels or None, heard
