"""Words to decide about without a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_dla.runtime import Launch
from airflow_dla.specs import Grant, JobFile, PlaceSpec
from airflow_dla.specs.agents import Entrypoint


@pytest.fixture(scope="session")
def place() -> Callable[..., PlaceSpec]:
    """Return a function that makes a place of a policy and other fields."""

    def make(policy: dict[str, Any] | None = None, **fields: Any) -> PlaceSpec:
        return PlaceSpec.from_mapping({"name": "k8s", "kind": "kubernetes", "connection": "k8s", "policy": policy or {}, **fields})

    return make


@pytest.fixture(scope="session")
def job() -> Callable[..., JobFile]:
    """Return a function that makes a job of an entrypoint, amounts and other fields."""

    def make(entrypoint: Any = ("python", "train.py"), amounts: dict[str, float] | None = None, **fields: Any) -> JobFile:
        granted = {"cpu": 1.5, "memory": 0.5} if amounts is None else amounts
        given: dict[str, Any] = {
            "attempt": "0d9f.2", "store": "file:///nowhere", "checkpoint": "0d9f", "nonce": "n0nce", "grace_s": 4.5,
            "grant": Grant(id="0d9f.2", node="k8s.gpu-7", amounts=granted), **fields,
        }  # fmt: skip
        return JobFile(entrypoint=Entrypoint.parse(entrypoint, "entrypoint"), **given)

    return make


@pytest.fixture(scope="session")
def launch(job: Callable[..., JobFile]) -> Callable[..., Launch]:
    """Return a function that makes a launch, of a default job unless it is given one."""

    def make(**fields: Any) -> Launch:
        return Launch(**{"job": job(), "image": "python:3.12", "labels": {"dag": "digits", "task": "train"}, **fields})

    return make
