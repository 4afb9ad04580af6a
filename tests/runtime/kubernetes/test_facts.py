"""What pods and Jobs say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from airflow_dla.runtime.facts import Stop, seconds
from airflow_dla.runtime.kubernetes import names
from airflow_dla.runtime.kubernetes.facts import Pod, exit_of, granted_of, job_of, stop_of
from airflow_dla.specs import Exit, ExitReason, Grant

Make = Callable[..., Any]

POD = {
    "metadata": {
        "name": "dla-w-0d9f-2-x7k2p", "uid": "u-1", "creationTimestamp": "2026-11-23T02:00:00Z",
        "labels": {names.ATTEMPT: "0d9f.2"},
    },
    "spec": {"nodeName": "gpu-7"},
    "status": {
        "phase": "Running", "podIP": "10.0.0.7",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-23T02:00:05Z"}],
        "initContainerStatuses": [
            {"name": "fetch", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            {"name": "mate", "state": {"running": {"startedAt": "2026-11-23T02:00:04Z"}}, "restartCount": 1},
        ],
        "containerStatuses": [
            {"name": "main", "state": {"running": {"startedAt": "2026-11-23T02:00:05Z"}}, "imageID": "sha256:0a",
             "resources": {"limits": {"cpu": "2"}}},
        ],
    },
}  # fmt: skip


def test_a_pod_that_runs():
    """Its node, its address and its containers."""
    pod = Pod.from_document(POD)
    assert (pod.name, pod.uid, pod.attempt, pod.node, pod.address, pod.phase) == (
        "dla-w-0d9f-2-x7k2p", "u-1", "0d9f.2", "gpu-7", "10.0.0.7", "Running",
    )  # fmt: skip
    assert (pod.started, pod.over, pod.fetches, pod.deleted_at, pod.unreachable) == (True, False, False, None, None)
    assert (pod.main.state, pod.main.resources, pod.main.image) == ("running", {"limits": {"cpu": "2"}}, "sha256:0a")
    assert (pod.containers["fetch"].code, pod.containers["mate"].restarts) == (0, 1)
    assert pod.conditions["Ready"].true


def test_a_pod_of_which_nothing_is_known():
    """What is missing was not said."""
    pod = Pod.from_document({"metadata": {"name": "p"}})
    assert (pod.phase, pod.main.state, pod.started, pod.over, pod.node) == ("Pending", "waiting", False, False, "")
    assert Pod.from_document({"metadata": {}, "status": {"containerStatuses": [{"name": "main", "state": None}]}}).main.state == "waiting"


def test_a_deletion_was_asked_for_before_it_is_due():
    """The API says when a pod is to be gone, and how long before that it was asked."""
    metadata = {"name": "p", "deletionTimestamp": "2026-11-23T02:00:30Z", "deletionGracePeriodSeconds": 30}
    assert Pod.from_document({"metadata": metadata}).deleted_at == seconds("2026-11-23T02:00:00Z")


def test_a_node_that_does_not_answer():
    """What its pods do is not known until it does, or is gone."""
    lost = {"type": "Ready", "status": "False", "reason": "NodeLost"}
    tainted = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
    for condition in (lost, tainted):
        found = Pod.from_document({**POD, "status": {**POD["status"], "conditions": [condition]}}).unreachable
        assert found is not None
        assert found.reason == condition["reason"]


def test_a_program_that_could_not_be_started_has_not_started():
    """A runtime says of one that it ended in 1970."""
    ended = {"name": "main", "state": {"terminated": {"exitCode": 128, "reason": "StartError", "startedAt": "1970-01-01T00:00:00Z"}}}
    pod = Pod.from_document({"metadata": {}, "status": {"phase": "Failed", "containerStatuses": [ended]}})
    assert (pod.started, pod.over, pod.main.code) == (False, True, 128)


def test_what_a_job_remembers(job: Make):
    """What was launched, with the grant that holds now; the stop; the end."""
    grant, end = Grant(id="0d9f.2", node="k8s.gpu-7", amounts={"cpu": 2.0}), Exit(reason=ExitReason.SUCCEEDED)
    noted = {
        names.JOB: names.written(job()), names.GRANT: json.dumps(grant.to_mapping()), names.EXIT: json.dumps(end.to_mapping()),
        names.STOP: '{"reason": "stopped", "at": 7}',
    }  # fmt: skip
    document = {"metadata": {"annotations": noted}}
    assert job_of(document) == job(grant=grant)
    assert granted_of(document) == grant
    assert (stop_of(document), exit_of(document)) == (Stop(ExitReason.STOPPED, 7.0), end)


def test_a_job_that_remembers_nothing():
    """A Job of somebody else, or a marker, was never launched by us."""
    for document in ({"metadata": {}}, {"metadata": {"annotations": None}}):
        assert (job_of(document), granted_of(document), stop_of(document), exit_of(document)) == (None, None, None, None)


def test_without_a_resize_the_grant_is_the_first(job: Make):
    """It stands in what was launched."""
    assert job_of({"metadata": {"annotations": {names.JOB: names.written(job())}}}) == job()
