"""``airflow dla allocate``: the allocation alone, on a problem in a file."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from airflow_dla.allocation import answer_mapping, plan, read_problem
from airflow_dla.cli.answer import Answer, table
from airflow_dla.cli.documents import read_document
from airflow_dla.cli.running import command
from airflow_dla.specs.grants import describe_amounts


@command
def allocate(args: Namespace) -> Answer:
    """Solve the problem in a file."""
    cluster, pending, policy = read_problem(read_document(args.file))
    found = answer_mapping(plan(cluster, (), pending, policy, time.time()), pending)
    return Answer(found, _text(found))


def _text(found: Mapping[str, Any]) -> str:
    granted = [(name, describe_amounts(amounts), found["reasons"].get(name)) for name, amounts in found["grants"].items()]
    waiting = [(name, "nothing yet", found["reasons"].get(name)) for name in found["waiting"]]
    prices = ", ".join(f"{resource} {price:g}" for resource, price in found["prices"].items())
    return (
        f"{table(['NAME', 'GRANTED', 'REASON'], granted + waiting, empty='nobody asks for anything')}\n\nprice of one more unit: {prices}"
    )
