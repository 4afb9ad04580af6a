"""Limits that change while a pod runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.runtime.kubernetes.facts import Pod
from airflow_dla.runtime.kubernetes.resizing import can_resize, outcome, patch
from airflow_dla.specs import Grant


def granted(amounts: Mapping[str, float], node: str = "k8s.n1", **ids: Any) -> Grant:
    """Return a grant of amounts."""
    return Grant(id="0d9f.2", node=node, amounts=amounts, **ids)


def running(resources: Mapping[str, Any], *conditions: Mapping[str, str]) -> Pod:
    """Return a pod whose node says which resources it has."""
    told = {"name": "main", "state": {"running": {}}, "resources": {"requests": resources, "limits": resources}}
    return Pod.from_document(
        {"metadata": {"name": "p", "generation": 6}, "status": {"containerStatuses": [told], "conditions": conditions}}
    )


ASKED = granted({"cpu": 2.0, "memory": 1.0})
FORCE = {"cpu": "2", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("new", "can"),
    [
        (granted({"cpu": 2.0, "memory": 0.5}), True),
        (granted({"cpu": 2.0}), False),
        (granted({"cpu": 1.0, "memory": 1.0, "disk": 1.0}), False),
        (granted({"cpu": 1.0, "memory": 1.0}, node="k8s.n2"), False),
        (granted({"cpu": 1.0, "memory": 1.0}, gpu_ids=("0",)), False),
        (granted({"cpu": 1.0, "memory": 1.0}), True),
    ],
)
def test_what_can_be_changed(new: Grant, can: bool):
    """CPUs and memory, where both grants have them."""
    assert can_resize(granted({"cpu": 1.0, "memory": 1.0}), new) is can


def test_what_a_node_holds_a_pod_to_is_in_force():
    """However it writes amounts; what it does not say is not."""
    assert outcome(running(FORCE), ASKED).in_force
    assert not outcome(running({"cpu": "2", "memory": "512Mi"}), ASKED).in_force
    assert not outcome(running({"cpu": "2"}), ASKED).in_force
    assert not outcome(running({}), ASKED).refused


@pytest.mark.parametrize(
    ("condition", "refused", "text"),
    [
        (
            ("PodResizePending", "Deferred", "Node didn't have enough resource: cpu"),
            True,
            "Deferred: Node didn't have enough resource: cpu",
        ),
        (("PodResizePending", "Infeasible", "too much"), True, "Infeasible: too much"),
        (("PodResizeInProgress", "Error", "cannot decrease memory limits"), True, "Error: cannot decrease memory limits"),
        (("PodResizeInProgress", "", ""), False, ""),
    ],
)
def test_what_a_node_says_of_it(condition: tuple[str, str, str], refused: bool, text: str):
    """While it waits or failed it is not in force, whatever the container has already."""
    kind, reason, message = condition
    found = outcome(running(FORCE, {"type": kind, "status": "True", "reason": reason, "message": message}), ASKED)
    assert (found.in_force, found.refused, found.text) == (False, refused, text)


def test_what_is_over_says_nothing():
    """A condition that is false is of another resize."""
    assert outcome(running(FORCE, {"type": "PodResizePending", "status": "False", "reason": "Deferred"}), ASKED).in_force


def test_what_an_event_says_before_the_status():
    """A kubelet that failed says so at once; of an older request it says nothing any more."""
    going = {"type": "PodResizeInProgress", "status": "True"}
    words = 'Pod resize error: {{"containers":[],"generation":{},"error":"cannot decrease memory limits: below current usage"}}'
    error = {"reason": "ResizeError", "message": words.format(6)}
    found = outcome(running({}, going), ASKED, [{"reason": "Started", "message": "x"}, error])
    assert (found.refused, found.text) == (True, "Pod resize error: cannot decrease memory limits: below current usage")
    for other in ({"reason": "ResizeError", "message": words.format(5)}, {"reason": "ResizeError", "message": "in other words"}):
        assert not outcome(running({}, going), ASKED, [other]).refused


@given(cpu=st.floats(0, 512), memory=st.floats(0, 4096))
def test_what_is_requested_is_the_limit_and_is_seen_in_force(cpu: float, memory: float):
    """A patch changes both alike, and its own words are what a node would say."""
    grant = granted({"cpu": cpu, "memory": memory})
    test, *changes = patch(grant)
    assert test == {"op": "test", "path": "/spec/containers/0/name", "value": "main"}
    values = {change["path"].removeprefix("/spec/containers/0/resources/"): change["value"] for change in changes}
    told = {resource: values[f"limits/{resource}"] for resource in ("cpu", "memory")}
    assert told == {resource: values[f"requests/{resource}"] for resource in ("cpu", "memory")}
    assert outcome(running(told), grant).in_force
