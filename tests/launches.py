"""Jobs and launches to decide about: nobody runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_dla.runtime import Launch
from airflow_dla.specs import Grant, JobFile
from airflow_dla.specs.agents import Entrypoint


def job(
    entrypoint: Any = ("python", "train.py"),
    amounts: Mapping[str, float] | None = None,
    *,
    node: str = "gpu1",
    ids: Mapping[str, Any] | None = None,
    **fields: Any,
) -> JobFile:
    """Return a job of an entrypoint, amounts and ids granted on a node, and other fields."""
    granted = {"cpu": 1.5, "memory": 0.5} if amounts is None else amounts
    given: dict[str, Any] = {
        "attempt": "0d9f.2", "store": "file:///nowhere", "checkpoint": "0d9f", "nonce": "n0nce", "grace_s": 4.5,
        "grant": Grant(id="0d9f.2", node=node, amounts=granted, **(ids or {})), **fields,
    }  # fmt: skip
    return JobFile(entrypoint=Entrypoint.parse(entrypoint, "entrypoint"), **given)


def launch(of: JobFile, **fields: Any) -> Launch:
    """Return a launch of a job in an image that has a Python."""
    return Launch(**{"job": of, "image": "python:3.12", "labels": {"dag": "digits", "task": "train"}, **fields})
