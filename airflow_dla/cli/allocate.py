"""``airflow dla allocate``: the allocation alone, on a problem in a file."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from airflow_dla.allocation import adjustment_mapping, answer_mapping, plan, read_live, read_problem
from airflow_dla.allocation import allocate as decide
from airflow_dla.cli.answer import Answer, table
from airflow_dla.cli.documents import read_document
from airflow_dla.cli.running import command
from airflow_dla.specs.grants import describe_amounts


@command
def allocate(args: Namespace) -> Answer:
    """Solve the problem in a file."""
    document = read_document(args.file)
    cluster, pending, policy = read_problem(document)
    held, now = read_live(document)
    if not held:
        found = answer_mapping(plan(cluster, (), pending, policy, time.time()), pending)
        return Answer(found, _text(found))
    answer = decide(cluster, held, pending, policy, now)
    found = answer_mapping(answer.plan, pending) | adjustment_mapping(answer.adjustment)
    return Answer(found, f"{_text(found)}\n\n{_live_text(found)}")


def _live_text(found: Mapping[str, Any]) -> str:
    stops = [(name, "stops", why) for name, why in found["preempted"].items()]
    changes = [(name, describe_amounts(amounts), None) for name, amounts in found["targets"].items()]
    return table(["LIVE", "BECOMES", "REASON"], stops + changes, empty="nothing changes of what is held")


def _text(found: Mapping[str, Any]) -> str:
    granted = [(name, describe_amounts(amounts), found["reasons"].get(name)) for name, amounts in found["grants"].items()]
    waiting = [(name, "nothing yet", found["reasons"].get(name)) for name in found["waiting"]]
    prices = ", ".join(f"{resource} {price:g}" for resource, price in found["prices"].items())
    return (
        f"{table(['NAME', 'GRANTED', 'REASON'], granted + waiting, empty='nobody asks for anything')}\n\nprice of one more unit: {prices}"
    )
