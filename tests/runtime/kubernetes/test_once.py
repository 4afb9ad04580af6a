"""Tests of which pod of a Job runs, and of who may tell that Kueue took it back."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.runtime.kubernetes import body, names
from airflow_dla.runtime.kubernetes.facts import Container, Pod, bound_of
from airflow_dla.runtime.kubernetes.once import was_taken_back


def job(*, suspend: bool = False, bound: bool = True, over: str = "") -> dict[str, Any]:
    """Return a Job."""
    annotations = {names.POD: '{"name": "p", "uid": "u"}'} if bound else {}
    conditions = [{"type": over, "status": "True"}] if over else []
    return {
        "metadata": {"resourceVersion": "7", "annotations": annotations, "labels": {names.QUEUE: "q"}},
        "spec": {"suspend": suspend},
        "status": {"conditions": conditions},
    }


def pod(*, deleted: bool = False, tracked: bool = True, ended: bool = False) -> Pod:
    """Return its pod."""
    main = Container(state="terminated", code=0) if ended else Container(state="running")
    return Pod(name="p", uid="u", deleted_at=1.0 if deleted else None, tracked=tracked, containers={"main": main})


@pytest.mark.parametrize(
    ("found", "its", "expected"),
    [
        (job(suspend=True), pod(), True),
        (job(suspend=True), pod(deleted=True, tracked=False, ended=True), True),
        (job(suspend=True), pod(ended=True), False),
        (job(), pod(), False),
        (job(), pod(deleted=True), False),
        (job(), pod(deleted=True, tracked=False), True),
        (job(), None, True),
        (job(over="Complete"), pod(deleted=True, tracked=False, ended=True), False),
        (job(over="FailureTarget"), None, False),
        (job(bound=False, suspend=True), None, False),
    ],
)
def test_what_was_taken_back(found: dict[str, Any], its: Pod | None, expected: bool):
    """A Job that was suspended, or whose pod its controller gave up without counting it; never one whose program had ended."""
    assert was_taken_back(found, its) is expected


def test_the_first_pod_is_the_one():
    """It is written into the version that was read, and read again."""
    patch = body.bound(job(bound=False), {"metadata": {"name": "p", "uid": "u"}})
    assert patch[0] == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    found = bound_of({"metadata": {"annotations": {names.POD: patch[1]["value"]}}})
    assert found is not None
    assert (found.name, found.uid) == ("p", "u")
    assert bound_of(job(bound=False)) is None


def test_only_our_gate_is_taken_off():
    """Others' stay, of the pod that is meant alone."""
    gated = {"metadata": {"uid": "u"}, "spec": {"schedulingGates": [{"name": "kueue.x-k8s.io/topology"}, {"name": names.GATE}]}}
    assert body.let_go(gated) == [
        {"op": "test", "path": "/metadata/uid", "value": "u"},
        {"op": "test", "path": "/spec/schedulingGates/1/name", "value": names.GATE},
        {"op": "remove", "path": "/spec/schedulingGates/1"},
    ]


def test_what_never_makes_a_pod():
    """One of a queue asks for none, so that Kueue holds nothing for it; any other is suspended."""
    assert [each["path"] for each in body.never(job())] == ["/spec/parallelism", "/spec/activeDeadlineSeconds"]
    assert body.never({"metadata": {}, "spec": {}}) == [{"op": "add", "path": "/spec/suspend", "value": True}]
