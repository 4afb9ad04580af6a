"""Tests of amounts as Kubernetes writes them, and of what a pod holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes_documents import asking, pod

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.kubernetes.quantities import held_by_pod, held_on_nodes, of_container, quantity

ALWAYS = {"restartPolicy": "Always"}
CORES = st.integers(0, 64)


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("100m", 0.1),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e3", 1e3),
        ("12E", 12e18),
        ("12e2", 1200.0),
        ("128974848", 128974848.0),
        ("1Ki", 1024.0),
        ("1500u", 0.0015),
        ("5n", 5e-9),
        ("3k", 3e3),
        ("-1", -1.0),
        (2, 2.0),
    ],
)
def test_an_amount_is_read(written: Any, amount: float) -> None:
    """Decimal and binary suffixes, and exponents that look like one."""
    assert quantity(written, "x") == pytest.approx(amount)


@pytest.mark.parametrize("written", ["", "1GiB", "a", "1 Gi", "1,5", None])
def test_what_is_no_amount_is_refused(written: Any) -> None:
    """It says which and where."""
    with pytest.raises(InvalidSpec, match=r"node 'n1'.cpu must be an amount as Kubernetes writes it"):
        quantity(written, "node 'n1'.cpu")


@pytest.mark.parametrize(
    ("document", "held"),
    [
        (pod(asking(cpu="1"), asking("b", cpu="500m")), 1.5),
        (pod(asking(cpu="1"), initContainers=[asking("f", cpu="3")]), 3.0),
        (pod(asking(cpu="1"), initContainers=[asking("mate", cpu="1") | ALWAYS, asking("f", cpu="3")]), 4.0),
        (pod(asking(cpu="1"), initContainers=[asking("f", cpu="3"), asking("mate", cpu="1") | ALWAYS]), 3.0),
        (pod(asking(cpu="3"), initContainers=[asking("f", cpu="3"), asking("mate", cpu="1") | ALWAYS]), 4.0),
        (pod(asking(cpu="1"), overhead={"cpu": "250m"}), 1.25),
        (pod(asking(cpu="1"), resources={"requests": {"cpu": "5"}}), 5.0),
        (pod({"name": "besteffort"}), 0.0),
    ],
)
def test_a_pod_holds_what_the_scheduler_counts(document: dict[str, Any], held: float) -> None:
    """Sidecars beside what comes after them, the rest one after the other, overhead on top."""
    assert held_by_pod(document).get("cpu", 0.0) == held


def test_what_a_shrinking_container_still_has_counts() -> None:
    """Until the kubelet has taken it away."""
    shrinking = pod(asking(cpu="1"))
    shrinking["status"]["containerStatuses"] = [{"name": "main", "allocatedResources": {"cpu": "2"}}]
    assert held_by_pod(shrinking) == {"cpu": 2.0}


def test_pods_that_have_ended_or_wait_hold_nothing() -> None:
    """What is bound and starting does."""
    one = asking(cpu="1", memory="1Gi")
    pods = [pod(one), pod(one, phase="Pending"), pod(one, phase="Succeeded"), pod(one, phase="Failed"), pod(one, on=None), pod(one, on="b")]
    held = held_on_nodes((each, held_by_pod(each)) for each in pods)
    assert held == {"n1": {"cpu": 2.0, "memory": 2.0**31}, "b": {"cpu": 1.0, "memory": 2.0**30}}


def test_one_container_by_its_name() -> None:
    """Nothing where there is no such."""
    assert of_container(pod(asking(cpu="1"), asking("log", cpu="2")), "log") == {"cpu": 2.0}
    assert of_container(pod(asking(cpu="1")), "log") == {}


@given(st.lists(CORES, max_size=3), st.lists(st.tuples(CORES, st.booleans()), max_size=4))
def test_a_pod_holds_at_least_whatever_runs_at_once(mains: list[int], inits: list[tuple[int, bool]]) -> None:
    """No moment of its life needs more, and one needs as much."""
    containers = [asking(f"m{number}", cpu=str(cores)) for number, cores in enumerate(mains)]
    first = [asking(f"i{number}", cpu=str(cores)) | (ALWAYS if stays else {}) for number, (cores, stays) in enumerate(inits)]
    moments = [sum(mains) + sum(cores for cores, stays in inits if stays)]
    for number, (cores, _) in enumerate(inits):
        moments.append(cores + sum(beside for beside, stays in inits[:number] if stays))
    assert held_by_pod(pod(*containers, initContainers=first)).get("cpu", 0.0) == max(moments)
