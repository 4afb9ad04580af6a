"""Tests of what Kueue tells of a job, by Workloads as it writes them."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import pytest

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime.kubernetes.answers import Forbidden
from airflow_dla.runtime.kubernetes.kueue import (
    Admission,
    State,
    admission,
    labels,
    look,
    refuse_foreign,
    selector,
    starves,
    taken_back,
    workload_of,
)
from airflow_dla.specs import Entrypoint, Grant, JobFile, Part, PlaceSpec

PLACE = PlaceSpec(name="k8s", kind="kubernetes", in_cluster=True, allocator="kueue", queue="team-a")
JOB = {"metadata": {"name": "dla-1", "uid": "u-1"}}


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    """Return one condition of a Workload."""
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-11-23T02:00:00Z"}


def workload(*conditions: dict[str, str], active: bool = True, **status: Any) -> dict[str, Any]:
    """Return the Workload of the job."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "dla-1", "uid": "u-1", "controller": True}
    return {
        "metadata": {"name": "job-dla-1-8f3c2", "labels": {"kueue.x-k8s.io/job-uid": "u-1"}, "ownerReferences": [owner]},
        "spec": {"queueName": "team-a", "active": active, "priority": 0},
        "status": {"conditions": list(conditions), **status},
    }


RESERVED = condition("QuotaReserved", "True", "QuotaReserved", "Quota reserved in ClusterQueue cluster-queue")
ADMITTED = condition("Admitted", "True", "Admitted", "The workload is admitted")
BY = {"admission": {"clusterQueue": "cluster-queue"}}
PREEMPTED = condition(
    "Evicted", "True", "Preempted",
    "Preempted to accommodate a workload (UID: 9c, JobUID: 7d) due to prioritization in the ClusterQueue; "
    "preemptor path: /all; preemptee path: /all",
)  # fmt: skip
IN_WORDS = "Preempted to accommodate a workload due to prioritization in the ClusterQueue"
GPUS = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor a100, 1 more needed"
LARGE = "couldn't assign flavors to pod set main: insufficient quota for cpu in flavor default, request > maximum capacity (10 > 8)"
LARGER = (
    "couldn't assign flavors to pod set main: insufficient quota for cpu in flavor default, "
    "previously considered podsets requests (0) + current podset request (10) > maximum capacity (8)"
)
EITHER = f"{LARGER}, insufficient unused quota for cpu in flavor spot, 2 more needed"
CHECK = {"name": "prov", "state": "Pending", "message": "Waiting for the cloud"}


NO_QUEUE = condition("QuotaReserved", "False", "Inadmissible", "LocalQueue team-a doesn't exist")
UNREADY = condition("PodsReady", "False", "WaitForStart", "Not all pods are ready or succeeded")
LATE = condition("Evicted", "True", "PodsReadyTimeout", "Exceeded the PodsReady timeout default/job")
OFTEN = condition("Evicted", "True", "DeactivatedDueToRequeuingLimitExceeded", "exceeding the maximum number of re-queuing retries")
DONE = condition("Finished", "True", "Succeeded", "Job finished successfully")
UNRESERVED = condition("QuotaReserved", "False", "Pending", "Preempted"), condition("Admitted", "False", "NoReservation", "")


@pytest.mark.parametrize(
    ("found", "state", "text"),
    [
        (workload(), "waiting", "waits in queue 'team-a' for its turn"),
        (workload(condition("QuotaReserved", "False", "Pending", GPUS)), "waiting", f"waits in queue 'team-a': {GPUS}"),
        (
            workload(NO_QUEUE),
            "waiting",
            "waits in queue 'team-a': LocalQueue team-a doesn't exist; correct the queue of place 'k8s', or have it made",
        ),
        (
            workload(condition("QuotaReserved", "False", "Pending", LARGE)),
            "refused",
            f"queue 'team-a' can never hold it: {LARGE}; ask for less, or have its ClusterQueue enlarged",
        ),
        (
            workload(RESERVED, admissionChecks=[CHECK, {"name": "other", "state": "Ready", "message": ""}]),
            "waiting",
            "has quota in queue 'team-a' and waits for Kueue's checks: prov is Pending (Waiting for the cloud)",
        ),
        (
            workload(RESERVED, admissionChecks=[{"name": "prov", "state": "Rejected", "message": "no such machine"}]),
            "refused",
            "has quota in queue 'team-a', and Kueue's checks will not let it start: prov is Rejected (no such machine)",
        ),
        (workload(RESERVED, ADMITTED, **BY), "admitted", "Kueue has admitted it by ClusterQueue 'cluster-queue'"),
        (
            workload(RESERVED, ADMITTED, UNREADY, **BY),
            "admitted",
            "Kueue has admitted it by ClusterQueue 'cluster-queue'; Not all pods are ready or succeeded",
        ),
        (workload(*UNRESERVED, PREEMPTED), "evicted", f"made way for another workload ({IN_WORDS})"),
        (workload(RESERVED, ADMITTED, PREEMPTED, **BY), "evicted", f"made way for another workload ({IN_WORDS})"),
        (
            workload(condition("QuotaReserved", "False", "ExceedsMaxQuota", LARGER)),
            "refused",
            f"queue 'team-a' can never hold it: {LARGER}; ask for less, or have its ClusterQueue enlarged",
        ),
        (workload(condition("QuotaReserved", "False", "WaitingForQuota", EITHER)), "waiting", f"waits in queue 'team-a': {EITHER}"),
        (
            workload(condition("QuotaReserved", "False", "Suspended", "ClusterQueue all is inactive")),
            "waiting",
            "waits in queue 'team-a': ClusterQueue all is inactive; it starts nothing until whoever runs the cluster lets it",
        ),
        (workload(LATE), "evicted", f"was not ready in time after its admission ({LATE['message']})"),
        (workload(condition("Evicted", "True", "Moonlight", "")), "evicted", "was evicted (Moonlight)"),
        (
            workload(OFTEN, active=False),
            "refused",
            f"Kueue has deactivated it: {OFTEN['message']}; whoever runs the cluster can activate it again",
        ),
        (workload(RESERVED, ADMITTED, DONE), "finished", "Kueue counts it as finished: Job finished successfully"),
        (workload(RESERVED, ADMITTED, PREEMPTED | {"status": "False"}), "admitted", "Kueue has admitted it"),
    ],
)
def test_a_workload_tells_how_its_job_fares(found: dict[str, Any], state: State, text: str) -> None:
    """In Kueue's own words where they say more, and with what to do."""
    assert admission(found, PLACE) == Admission(state, text)


def test_a_job_that_kueue_has_not_seen_waits() -> None:
    """A queue of a misspelt name shows in this way."""
    found = admission(workload_of(JOB, [workload() | {"metadata": {"name": "other", "labels": {"kueue.x-k8s.io/job-uid": "u-2"}}}]), PLACE)
    assert (found.state, "has no such queue" in found.text) == ("waiting", True)


def test_a_job_is_asked_for_by_its_uid() -> None:
    """Of all the Workloads of a namespace, its own."""
    asked = []

    class MadeUpCluster:
        def list(self, kind: str, *, labels: str = "", fields: str = "", cluster_wide: bool = False) -> tuple[list[dict[str, Any]], str]:
            asked.append((kind, labels, fields, cluster_wide))
            return [workload(RESERVED, ADMITTED)], "1"

    assert look(MadeUpCluster(), JOB, PLACE).state == "admitted"
    assert asked == [("workloads", "kueue.x-k8s.io/job-uid=u-1", "", False)]


@pytest.mark.parametrize("without", ["labels", "ownerReferences"])
def test_a_workload_is_found_by_its_job(without: str) -> None:
    """By its owner or by its label: old versions of Kueue lack the one, a Workload made by hand the other."""
    found = workload()
    del found["metadata"][without]
    assert workload_of(JOB, [found]) is found
    assert selector(JOB) == "kueue.x-k8s.io/job-uid=u-1"


@dataclasses.dataclass
class Says:
    """A cluster that has one Workload, or shows none.

    Parameters
    ----------
    workload : mapping or None
    hidden : bool
    """

    workload: dict[str, Any] | None
    hidden: bool = False

    def list(self, kind: str, *, labels: str = "", fields: str = "", cluster_wide: bool = False) -> tuple[list[dict[str, Any]], str]:
        """Return it."""
        if self.hidden:
            raise Forbidden("not shown")
        return [] if self.workload is None else [self.workload], "1"


AGAIN = condition("Evicted", "False", "QuotaReserved", f"Previously: {PREEMPTED['message']}")


@pytest.mark.parametrize(
    ("cluster", "reason", "why"),
    [
        (Says(workload(*UNRESERVED, PREEMPTED)), "preempted", f"Kueue took it back: it made way for another workload ({IN_WORDS})"),
        (Says(workload(RESERVED, ADMITTED, AGAIN)), "preempted", f"Kueue took it back: {IN_WORDS}"),
        (Says(workload(OFTEN, active=False)), "refused", f"Kueue has deactivated it: {OFTEN['message']}; whoever runs the cluster"),
        (Says(None), "preempted", "Kueue took it back"),
        (Says(None, hidden=True), "preempted", "Kueue took it back"),
    ],
)
def test_why_a_job_was_taken_back(cluster: Says, reason: str, why: str) -> None:
    """Also once it was started again; who may not see that knows at least that it was."""
    found = taken_back(cluster, JOB, PLACE)
    assert found[0].value == reason
    assert found[1].startswith(why)


def test_why_kueue_does_not_take_a_job() -> None:
    """It makes no Workload then, and says it of the Job."""
    said = [{"reason": "WorkloadPriorityClassNotFound", "message": 'WorkloadPriorityClass "x" not found'}]
    found = look(Says(None), JOB, PLACE, lambda: said)
    assert (
        found.text
        == "Kueue does not take it into queue 'team-a': WorkloadPriorityClass \"x\" not found; correct the place, or have it made"
    )


def test_members_do_not_wait_for_each_other_for_ever() -> None:
    """Kueue admits each by itself: one that waits while the first runs gives up after a time that differs between jobs."""

    def member(number: int, rank: int) -> JobFile:
        part = Part(run_id="d.1", node_rank=rank, nodes=2, first_rank=rank, world_size=2, port=20_001)
        entrypoint = Entrypoint(command=("true",))
        grant = Grant(id=f"d.{number}", node="k8s")
        fields: dict[str, Any] = {"store": "file:///nowhere", "checkpoint": "d", "nonce": "n", "grant": grant, "part": part}
        return JobFile(attempt=f"d.{number}", entrypoint=entrypoint, **fields)

    seconds = [next(at for at in range(600) if starves(member(number, 1), at)) for number in range(50)]
    assert 180 <= min(seconds) < 220
    assert 320 < max(seconds) <= 361
    assert not starves(member(1, 0), 1e6)


@pytest.mark.parametrize(("suspend", "state"), [(True, "waiting"), (False, "admitted")])
def test_who_may_not_see_workloads(suspend: bool, state: State) -> None:
    """What its Job says must do."""
    found = look(Says(None, hidden=True), {**JOB, "spec": {"suspend": suspend}}, PLACE)
    assert (found.state, "not shown to this user" in found.text) == (state, suspend)


def test_a_job_that_kueue_took_unasked_is_refused() -> None:
    """Where our allocator decides, nobody else may."""
    refuse_foreign(JOB, PLACE)
    with pytest.raises(LaunchRefused, match="puts the Jobs of this namespace into queue 'default'; say allocator: kueue, queue: default"):
        refuse_foreign({"metadata": {"name": "j", "labels": {"kueue.x-k8s.io/queue-name": "default"}}}, PLACE)


def test_only_a_place_under_kueue_names_a_queue() -> None:
    """A Job without the label is none of Kueue's."""
    assert labels(PLACE) == {"kueue.x-k8s.io/queue-name": "team-a"}
    assert labels(PlaceSpec(name="k8s", kind="kubernetes", in_cluster=True), 100) == {}


@pytest.mark.parametrize(("priority", "expected"), [(-1, None), (0, "normal"), (9, "normal"), (10, "high"), (500, "high")])
def test_a_jobs_priority_is_the_class_that_it_reaches(priority: int, expected: str | None) -> None:
    """One below all has none."""
    place = replace(PLACE, workload_priorities={"high": 10, "normal": 0})
    assert labels(place, priority).get("kueue.x-k8s.io/priority-class") == expected
