"""How pods end, and whose doing it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_dla.runtime.facts import Staged, Stop
from airflow_dla.runtime.kubernetes.ending import concluded, ending
from airflow_dla.runtime.kubernetes.facts import Pod
from airflow_dla.specs import ArtifactRef, Exit, ExitReason

Make = Callable[..., Any]
STARTED, ENDED, LATER = "2026-11-23T02:00:00Z", "2026-11-23T02:10:00Z", "2026-11-23T02:11:00Z"


def terminated(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    """Return the state of a container that ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": STARTED, "finishedAt": ENDED, **more}}


def pod(main: Mapping[str, Any] | None = None, *, metadata: Mapping[str, Any] | None = None, init: Any = (), **status: Any) -> Pod:
    """Return a pod whose main container has a state."""
    told = [] if main is None else [{"name": "main", "state": main}]
    document = {
        "metadata": {"name": "dla-w-0d9f-2-x7k2p", **(metadata or {})},
        "spec": {"nodeName": "gpu-7"},
        "status": {"phase": "Failed", "containerStatuses": told, "initContainerStatuses": init, **status},
    }
    return Pod.from_document(document)


def disrupted(reason: str, message: str = "", at: str = ENDED) -> list[dict[str, Any]]:
    """Return the condition of a pod that its cluster ends."""
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message, "lastTransitionTime": at}]


@pytest.fixture
def end(job: Make) -> Make:
    """Return a function that concludes on a pod and its Job."""

    def make(found: Pod | None, document: Mapping[str, Any] | None = None, **given: Any) -> Exit:
        events = given.pop("events", ())
        said: dict[str, Any] = {"stop": None, "hard": False, "said": (), "tail": b"", "metrics": {}, "staged": None, **given}
        return concluded(said.pop("job", job()), ending(found, document, events), **said)

    return make


def test_a_program_that_ended_well(end: Make):
    """Its times are those of its container."""
    found = end(pod(terminated(0, "Completed"), phase="Succeeded"))
    assert (found.reason, found.code, found.ended_at - found.started_at) == (ExitReason.SUCCEEDED, 0, 600.0)


def test_a_program_that_failed(end: Make):
    """Its status and the end of its log are the message."""
    found = end(pod(terminated(3)), tail=b"ValueError: no\n")
    assert (found.reason, found.code) == (ExitReason.USER_ERROR, 3)
    assert "exited with status 3" in found.message
    assert "ValueError: no" in found.message


def test_a_program_that_took_too_much_memory(end: Make):
    """The kernel's word comes before the status."""
    found = end(pod(terminated(137, "OOMKilled")))
    assert (found.reason, found.oom_kills) == (ExitReason.OUT_OF_MEMORY, 1)
    assert "under a limit of 0.5 GiB" in found.message


def test_a_program_that_was_killed_from_outside(end: Make):
    """Nothing was done to its pod: somebody killed the process."""
    assert end(pod(terminated(137))).reason is ExitReason.KILLED


def test_a_command_that_is_not_in_the_image(end: Make):
    """A runtime says of it that it ended in 1970."""
    words = 'failed to create containerd task: exec: "train": executable file not found in $PATH: unknown'
    state = {"terminated": {"exitCode": 128, "reason": "StartError", "message": words, "startedAt": "1970-01-01T00:00:00Z"}}
    found = end(pod(state))
    assert (found.reason, found.code) == (ExitReason.USER_ERROR, None)
    assert "could not start" in found.message
    assert "command not found: 'python'" in found.message


@pytest.mark.parametrize(
    ("reason", "wanted", "said"),
    [
        ("PreemptionByScheduler", ExitReason.PREEMPTED, "a pod of a higher priority class took its place"),
        ("EvictionByEvictionAPI", ExitReason.LOST, "it was evicted, as when a node is drained"),
        ("DeletionByTaintManager", ExitReason.LOST, "its node was tainted"),
        ("DeletionByPodGC", ExitReason.LOST, "its node is gone"),
        ("TerminationByKubelet", ExitReason.LOST, "its node ended it"),
        ("SomethingNew", ExitReason.LOST, r"its cluster ended it \(SomethingNew\)"),
    ],
)
@pytest.mark.parametrize("code", [143, 137, 1])
def test_what_a_cluster_does_is_nobodys_failure(reason: str, wanted: ExitReason, said: str, code: int, end: Make):
    """Whatever status the program ended with on the way: a new attempt is made, and no Airflow retry is spent."""
    found = end(pod(terminated(code), conditions=disrupted(reason, "words of the cluster")))
    assert found.reason is wanted
    assert found.reason.infrastructure
    assert re.search(rf"its pod was ended on node gpu-7: {said}.*\(words of the cluster\)", found.message)


@pytest.mark.parametrize(
    ("reason", "wanted", "said"),
    [
        ("Evicted", ExitReason.LOST, "its node was short of something"),
        ("NodeShutdown", ExitReason.LOST, "its node was shut down"),
        ("Preempting", ExitReason.PREEMPTED, "for a critical pod"),
        ("UnexpectedAdmissionError", ExitReason.LOST, "could not hand out what was granted"),
        ("OutOfcpu", ExitReason.LOST, "its node gpu-7 had no room after all"),
        ("OutOfnvidia.com/gpu", ExitReason.LOST, "its node gpu-7 had no room after all"),
    ],
)
def test_what_a_kubelet_says_of_a_pod(reason: str, wanted: ExitReason, said: str, end: Make):
    """Some of these pods never ran: no container of theirs has a state."""
    found = end(pod(reason=reason, message="the node's words", conditions=disrupted("TerminationByKubelet")))
    assert found.reason is wanted
    assert said in found.message
    assert "(the node's words)" in found.message


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ('Usage of EmptyDir volume "tmp" exceeds the limit "256Mi". ', "more than 256Mi bytes into /tmp, which lies in memory"),
        ('Usage of EmptyDir volume "shm" exceeds the limit "1Gi". ', "/dev/shm; ask for more with request={'shm': …}"),
        ('Usage of EmptyDir volume "dla" exceeds the limit "10Gi". ', "ask for more with request={'disk': …}"),
        ("Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ", "wrote more to disk than it was granted"),
        ('Container main exceeded its local ephemeral storage limit "1Gi". ', "wrote more to disk than it was granted"),
    ],
)
def test_a_job_that_wrote_too_much_is_told_so(message: str, said: str, end: Make):
    """A kubelet evicts it as it evicts those that are in nobody's way; a new attempt would write as much."""
    found = end(pod(terminated(137), reason="Evicted", message=message))
    assert found.reason is ExitReason.USER_ERROR
    assert said in found.message


def test_a_pod_that_somebody_deleted(end: Make):
    """Its program had to end; that is not its failure."""
    metadata = {"deletionTimestamp": ENDED, "deletionGracePeriodSeconds": 30}
    found = end(pod(terminated(143), metadata=metadata))
    assert found.reason is ExitReason.LOST
    assert "was deleted, by somebody or something that is not us" in found.message


@pytest.mark.parametrize(("code", "wanted"), [(143, ExitReason.LOST), (137, ExitReason.LOST), (1, ExitReason.LOST)])
def test_a_pod_of_whose_deletion_only_the_end_was_seen(code: int, wanted: ExitReason, end: Make):
    """Its kubelet deletes it at last, at once, a second after its program ended; so it looks as if that had been first."""
    metadata = {"deletionTimestamp": "2026-11-23T02:10:01Z", "deletionGracePeriodSeconds": 0}
    assert end(pod(terminated(code), metadata=metadata)).reason is wanted


def test_what_a_kubelet_said_when_it_stopped_a_container(end: Make):
    """That tells best who ended it: nobody stops what has ended."""
    metadata = {"deletionTimestamp": LATER, "deletionGracePeriodSeconds": 0}
    stopped = {"reason": "Killing", "message": "Stopping container main"}
    assert end(pod(terminated(1), metadata=metadata), events=[stopped]).reason is ExitReason.LOST
    beside = {"reason": "Killing", "message": "Stopping container mate"}
    soon = {"deletionTimestamp": "2026-11-23T02:10:01Z", "deletionGracePeriodSeconds": 0}
    assert end(pod(terminated(1), metadata=soon), events=[beside]).reason is ExitReason.USER_ERROR


def test_memory_that_ran_out_is_told_of_a_deleted_pod_too(end: Make):
    """The kernel ended it, not who deleted it after."""
    metadata = {"deletionTimestamp": LATER, "deletionGracePeriodSeconds": 0}
    assert end(pod(terminated(137, "OOMKilled"), metadata=metadata)).reason is ExitReason.OUT_OF_MEMORY


def test_what_a_program_did_before_counts(end: Make):
    """It had failed, or succeeded, before its pod was deleted or evicted."""
    metadata = {"deletionTimestamp": LATER, "deletionGracePeriodSeconds": 30}
    assert end(pod(terminated(3), metadata=metadata)).reason is ExitReason.USER_ERROR
    assert end(pod(terminated(0), conditions=disrupted("EvictionByEvictionAPI"))).reason is ExitReason.SUCCEEDED
    assert end(pod(terminated(3), conditions=disrupted("EvictionByEvictionAPI", at=LATER))).reason is ExitReason.USER_ERROR
    assert end(pod(terminated(3), reason="Evicted", conditions=disrupted("TerminationByKubelet", at=LATER))).reason is ExitReason.LOST


def test_a_program_that_ended_well_and_was_evicted_before_its_outputs_were_kept(end: Make, job: Make):
    """Nobody has them: a new attempt makes them again."""
    found = end(pod(terminated(0), conditions=disrupted("EvictionByEvictionAPI")), job=job(outputs=("model",)), staged=Staged())
    assert found.reason is ExitReason.LOST


def test_a_stop_that_was_wanted_comes_first(end: Make):
    """Our own deletion looks like anybody's."""
    metadata = {"deletionTimestamp": ENDED, "deletionGracePeriodSeconds": 5}
    found = end(pod(terminated(137), metadata=metadata), stop=Stop(ExitReason.STOPPED, 0.0), hard=True)
    assert (found.reason, found.message) == (
        ExitReason.STOPPED, "stopped: it was asked to stop and did not end within 4.5 s and was killed",
    )  # fmt: skip


def test_outputs_are_those_of_a_success_alone(end: Make, job: Make):
    """What was done to a pod takes them back."""
    staged = Staged({"model": ArtifactRef(digest="sha256:" + "0" * 64, kind="folder", size=1)})
    assert end(pod(terminated(0)), job=job(outputs=("model",)), staged=staged).outputs == staged.outputs
    lost = end(pod(terminated(143), conditions=disrupted("DeletionByPodGC")), job=job(outputs=("model",)), staged=staged)
    assert (lost.reason, lost.outputs) == (ExitReason.LOST, {})


def test_a_container_that_its_node_forgot(end: Make):
    """A kubelet that was started anew says so, and guesses a status."""
    state = terminated(137, "ContainerStatusUnknown", message="The container could not be located when the pod was terminated")
    found = end(pod(state))
    assert found.reason is ExitReason.LOST
    assert "its node does not know of it any more (The container could not be located" in found.message


@pytest.mark.parametrize(
    ("state", "wanted", "said"),
    [
        (terminated(137, "OOMKilled"), ExitReason.OUT_OF_MEMORY, "fetching its inputs took more memory than was granted"),
        (terminated(1), ExitReason.LOST, "what fetches its inputs ended with status 1; look into its log"),
        (terminated(128, "StartError", message='exec: "python3": not found'), ExitReason.REFUSED, "a helper image with Python 3.8"),
    ],
)
def test_what_goes_wrong_before_the_job_begins(state: Any, wanted: ExitReason, said: str, end: Make):
    """The job's own container waits for ever then."""
    found = end(pod({"waiting": {"reason": "PodInitializing"}}, init=[{"name": "fetch", "state": state}]))
    assert found.reason is wanted
    assert said in found.message


def failed(message: str, reason: str = "PodFailurePolicy") -> dict[str, Any]:
    """Return a Job that failed."""
    return {
        "metadata": {},
        "status": {"startTime": STARTED, "conditions": [{"type": "Failed", "status": "True", "reason": reason, "message": message}]},
    }


def test_a_pod_that_is_gone_and_what_its_job_says(end: Make):
    """A Job's conditions keep what became of its pod."""
    code = "Container main for pod ml/dla-w-0d9f-2-x7k2p failed with exit code 3 matching FailJob rule at index 1"
    found = end(None, failed(code))
    assert (found.reason, found.code) == (ExitReason.USER_ERROR, 3)
    assert end(None, failed(code.replace("code 3", "code 143"))).reason is ExitReason.LOST
    disruption = "Pod ml/dla-w-0d9f-2-x7k2p has condition DisruptionTarget matching FailJob rule at index 0"
    assert end(None, failed(disruption)).reason is ExitReason.LOST
    complete = {"status": {"startTime": STARTED, "completionTime": ENDED, "conditions": [{"type": "Complete", "status": "True"}]}}
    found = end(None, complete)
    assert (found.reason, found.ended_at - found.started_at) == (ExitReason.SUCCEEDED, 600.0)


@pytest.mark.parametrize(
    ("document", "said"),
    [(None, "its Job and its pod are gone and left no word"), (failed("", "BackoffLimitExceeded"), "its pod is gone and left no word")],
)
def test_a_pod_that_is_gone_without_a_word(document: Any, said: str, end: Make):
    """Nobody knows what it did: it is lost."""
    found = end(None, document)
    assert found.reason is ExitReason.LOST
    assert said in found.message


def test_a_pod_that_vanished_while_it_ran(end: Make):
    """It was seen last as it ran."""
    found = end(pod({"running": {"startedAt": STARTED}}, phase="Running"), failed("", "BackoffLimitExceeded"))
    assert found.reason is ExitReason.LOST
    assert "its pod dla-w-0d9f-2-x7k2p is gone and left no word: somebody deleted it" in found.message
