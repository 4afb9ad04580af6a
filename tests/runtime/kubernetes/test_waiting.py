"""Why pods are not there yet, in the words of a real cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.errors import JobLost, LaunchRefused, NotReady
from airflow_dla.runtime.facts import seconds
from airflow_dla.runtime.kubernetes import pods
from airflow_dla.runtime.kubernetes.facts import Pod
from airflow_dla.runtime.kubernetes.waiting import Outlook, Wait, trouble, waiting

MADE = "2026-11-23T02:00:00Z"
NOW = seconds(MADE) + 5.0
LATER, MUCH_LATER = NOW + 90.0, NOW + 600.0
WAITS, LOST, REFUSED = Outlook.WAITS, Outlook.LOST, Outlook.REFUSED
HELPLESS = " no new claims to deallocate, preemption: 0/{0} nodes are available: {0} Preemption is not helpful for scheduling."
VICTIMS = " no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."


def event(reason: str, message: str, **more: Any) -> dict[str, Any]:
    """Return an event."""
    return {"reason": reason, "message": message, "lastTimestamp": MADE, **more}


def pod(main: Mapping[str, Any] | None = None, *, node: str = "gpu-7", pinned: bool = True, unscheduled: str = "", **more: Any) -> Pod:
    """Return a pod that is pending."""
    condition = {"type": "PodScheduled", "lastTransitionTime": MADE, "status": "False" if unscheduled else "True", "message": unscheduled}
    spec: dict[str, Any] = {"nodeName": "" if unscheduled else node, "affinity": pods.on_node("gpu-7") if pinned else {}}
    told = [] if main is None else [{"name": "main", "state": {"waiting": main}}]
    status = {"phase": "Pending", "conditions": [condition], "containerStatuses": told, **more}
    return Pod.from_document({"metadata": {"name": "p", "creationTimestamp": MADE}, "spec": spec, "status": status})


def test_what_a_launch_raises():
    """A wait goes on, a loss is followed by another attempt, a refusal ends the job."""
    for outlook, kind in ((WAITS, NotReady), (LOST, JobLost), (REFUSED, LaunchRefused)):
        error = Wait("why", outlook).error("k8s")
        assert type(error) is kind
        assert str(error) == ("why" if outlook is WAITS else "place k8s: why")


@pytest.mark.parametrize(
    ("message", "outlook", "said"),
    [
        (
            'pods "a" is forbidden: exceeded quota: few, requested: limits.cpu=2, used: limits.cpu=3, limited: limits.cpu=4', WAITS,
            "it waits until others of the namespace have ended",
        ),
        (
            'pods "a" is forbidden: exceeded quota: few, requested: pods=1,memory=2Gi, used: pods=0, limited: pods=9,memory=512Mi',
            REFUSED, "it is more than the namespace may have at all",
        ),
        ('pods "a" is forbidden: failed quota: few: must specify limits.cpu for: main', REFUSED, "request={'cpu': …, 'memory': …}"),
        (
            'pods "a" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes (volume "asked-0")', REFUSED,
            "a namespace where it is allowed",
        ),
        ('pods "a" is forbidden: maximum cpu usage per Container is 1, but limit is 2', REFUSED, "the namespace's LimitRange takes"),
        (
            'pods "a" is forbidden: error looking up service account ml/nope: serviceaccount "nope" not found', REFUSED,
            "name one that the namespace has",
        ),
        ('pods "a" is forbidden: no PriorityClass with name nope was found', REFUSED, "name one that the cluster has"),
        ('pods "a" is forbidden: pod rejected: RuntimeClass "nope" not found', REFUSED, "name one that the cluster has"),
        ('admission webhook "policy.example.org" denied the request: no', REFUSED, "do what it says"),
        ("pods \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", REFUSED, "do what it says"),
        ('Internal error occurred: failed calling webhook "policy.example.org": context deadline exceeded', WAITS, "it is tried again"),
        ('Pod "a" is invalid: spec.containers[0].image: Required value', REFUSED, "correct what it names"),
        ('namespaces "ml" not found', REFUSED, "name another namespace for the place"),
        ('pods "a" is forbidden: exceeded quota: q, requested: cpu=much, used: cpu=0, limited: cpu=1', WAITS, "it waits until"),
        ("something that nobody has seen", WAITS, "something that nobody has seen"),
    ],
)  # fmt: skip
def test_pods_that_a_cluster_does_not_make(message: str, outlook: Outlook, said: str):
    """What it says is said, and what would do."""
    found = waiting(None, {"spec": {}}, [event("SuccessfulCreate", "x"), event("FailedCreate", f"Error creating: {message}")], now=NOW)
    assert found.outlook is outlook
    assert "the cluster makes no pod: " in found.text
    assert said in found.text


def test_a_job_that_has_no_pod_yet():
    """Nothing is wrong."""
    assert waiting(None, {"spec": {}}, now=NOW) == Wait("its Job is created, and no pod is yet")
    assert waiting(None, None, now=NOW).outlook is WAITS


@pytest.mark.parametrize(
    ("message", "pinned", "soon", "later"),
    [
        ("0/1 nodes are available: 1 Insufficient cpu." + VICTIMS, True, WAITS, WAITS),
        ("0/1 nodes are available: 1 Insufficient cpu." + HELPLESS.format(1), True, WAITS, LOST),
        ("0/1 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity]." + HELPLESS.format(1), True, WAITS, LOST),
        ("0/1 nodes are available: 1 node(s) were unschedulable." + HELPLESS.format(1), True, WAITS, LOST),
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu." + HELPLESS.format(3), False, WAITS, REFUSED),
        ("0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu." + HELPLESS.format(3), False, WAITS, WAITS),
        ("0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 2 No victims, 1 ...", False, WAITS, WAITS),
        ('0/1 nodes are available: persistentvolumeclaim "nope" not found. not found', True, WAITS, REFUSED),
        (
            '0/1 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim "p-dla". not found',
            True, WAITS, WAITS,
        ),
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found", True, WAITS, WAITS),
    ],
)  # fmt: skip
def test_pods_that_no_node_has_room_for(message: str, pinned: bool, soon: Outlook, later: Outlook):
    """What others hold comes back; what no node has never comes, and what the granted one lacks another may have."""
    waits = pod(unscheduled=message, pinned=pinned)
    assert waiting(waits, None, now=NOW).outlook is soon
    assert waiting(waits, None, now=LATER).outlook is later


def test_the_words_of_the_scheduler():
    """What it says of preemption is for those who know schedulers."""
    found = waiting(pod(unscheduled="0/3 nodes are available: 3 Insufficient nvidia.com/gpu." + VICTIMS), None, now=NOW)
    assert found.text == (
        "no node has room for it: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu; it waits until others have ended"
    )


def test_nodes_that_are_being_added():
    """A cluster that grows is given its time."""
    never = pod(unscheduled="0/3 nodes are available: 3 Insufficient nvidia.com/gpu." + HELPLESS.format(3), pinned=False)
    found = waiting(never, None, [event("TriggeredScaleUp", "pod triggered scale-up")], now=MUCH_LATER)
    assert found.outlook is WAITS
    assert "nodes are being added" in found.text


def test_a_pod_that_the_scheduler_has_not_looked_at():
    """Or that somebody holds back."""
    new = Pod.from_document({"metadata": {"name": "p"}})
    assert waiting(new, None, now=NOW).text == "its pod waits for the scheduler"
    gate = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    status = {"conditions": [gate]}
    gated = Pod.from_document({"metadata": {"name": "p"}, "spec": {"schedulingGates": [{"name": "theirs/gate"}]}, "status": status})
    assert "held back by scheduling gate theirs/gate" in waiting(gated, None, now=MUCH_LATER).text
    let_go = Pod.from_document({"metadata": {"name": "p"}, "spec": {}, "status": status})
    assert waiting(let_go, None, now=NOW).text == "its pod waits for the scheduler"


NO_HOST = 'failed to resolve reference "nowhere.example/none:1": dial tcp: lookup nowhere.example on 10.0.0.10:53: no such host'
NOT_FOUND = 'failed to resolve reference "docker.io/library/pyton:3": docker.io/library/pyton:3: not found'
DENIED = "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials"
MISSPELT = 'failed to parse image reference "UPPER/none:1": invalid reference format: repository name must be lowercase'


@pytest.mark.parametrize(
    ("reason", "message", "now", "outlook", "said"),
    [
        ("ErrImagePull", MISSPELT, NOW, REFUSED, "its image has no name that a registry could know"),
        ("InvalidImageName", "", NOW, REFUSED, "its image has no name"),
        ("ErrImagePull", NOT_FOUND, NOW, WAITS, "its image cannot be pulled"),
        ("ImagePullBackOff", f'Back-off pulling image "pyton:3": ErrImagePull: {NOT_FOUND}', LATER, REFUSED, "correct its name or tag"),
        (
            "ImagePullBackOff",
            f'Back-off pulling image "pyton:3": ErrImagePull: {DENIED}',
            LATER,
            REFUSED,
            "give the place image_pull_secrets",
        ),
        ("ImagePullBackOff", f'Back-off pulling image "none:1": ErrImagePull: {NO_HOST}', LATER, WAITS, "registry cannot be reached from"),
        ("ErrImagePull", NO_HOST, MUCH_LATER, REFUSED, "let node gpu-7 reach the registry, or name an image that it has"),
        ("ErrImageNeverPull", 'Container image "none:1" is not present with pull policy of Never', NOW, REFUSED, "import it there"),
    ],
)
def test_images_that_do_not_come(reason: str, message: str, now: float, outlook: Outlook, said: str):
    """A registry that is away may come back; an image that it does not have will not."""
    found = waiting(pod({"reason": reason, "message": message}), None, now=now)
    assert found.outlook is outlook
    assert said in found.text
    assert "Back-off" not in found.text


def test_what_was_tried_twice_is_not_there():
    """Events tell how often; what they said last is why, where the container says nothing of it."""
    tried = [event("Failed", f'Failed to pull image "pyton:3": {NOT_FOUND}', count=2), event("Failed", "Error: ErrImagePull", count=2)]
    found = waiting(pod({"reason": "ImagePullBackOff", "message": 'Back-off pulling image "pyton:3"'}), None, tried, now=NOW)
    assert found.outlook is REFUSED
    assert "pyton:3: not found" in found.text
    once = [event("Failed", f'Failed to pull image "pyton:3": {NOT_FOUND}')]
    assert waiting(pod({"reason": "ErrImagePull", "message": NOT_FOUND}), None, once, now=LATER).outlook is WAITS


@pytest.mark.parametrize(
    ("reason", "message", "now", "outlook", "said"),
    [
        ("CreateContainerConfigError", 'secret "dla-w-a-1" not found', NOW, WAITS, 'secret "dla-w-a-1" not found'),
        ("CreateContainerConfigError", 'secret "dla-w-a-1" not found', LATER, LOST, "a new attempt makes it again"),
        (
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root",
            NOW,
            REFUSED,
            "could not start on node gpu-7",
        ),
        (
            "CreateContainerError",
            "executable file `train` not found in $PATH: No such file or directory",
            NOW,
            REFUSED,
            "command not found: 'train'",
        ),
        ("RunContainerError", "failed to create containerd task: no space left on device", NOW, LOST, "disk is full"),
    ],
)
def test_containers_that_cannot_start(reason: str, message: str, now: float, outlook: Outlook, said: str):
    """Their author is told, unless it is the node's fault."""
    found = waiting(pod({"reason": reason, "message": message}), None, now=now, program="train")
    assert found.outlook is outlook
    assert said in found.text


def test_ours_that_are_stuck_come_first():
    """What fetches is started before the job is."""
    fetch = {"name": "fetch", "state": {"waiting": {"reason": "ErrImagePull", "message": MISSPELT}}}
    found = waiting(pod({"reason": "PodInitializing"}, initContainerStatuses=[fetch]), None, now=NOW)
    assert found.outlook is REFUSED


def test_volumes_that_cannot_be_mounted():
    """A folder that the node lacks is not made; what is ours comes."""
    creating = pod({"reason": "ContainerCreating"})
    folder = event("FailedMount", 'MountVolume.SetUp failed for volume "asked-0" : hostPath type check failed: /nope is not a directory',
                   firstTimestamp=MADE)  # fmt: skip
    found = waiting(creating, None, [folder], now=NOW)
    assert (found.outlook, waiting(creating, None, [folder], now=LATER).outlook) == (WAITS, REFUSED)
    assert "make /nope there, or ask with labels for nodes that have it" in found.text
    runner = event("FailedMount", 'MountVolume.SetUp failed for volume "runner" : configmap "dla-runner-0a" not found')
    assert waiting(creating, None, [runner], now=MUCH_LATER).outlook is WAITS


def test_what_goes_well():
    """An image is pulled, then the pod is started."""
    creating = pod({"reason": "ContainerCreating"})
    pulling = event("Pulling", 'Pulling image "python:3.12"')
    assert waiting(creating, None, [pulling], now=NOW).text == 'pulling image "python:3.12" on node gpu-7'
    pulled = event("Pulled", "Successfully pulled image", lastTimestamp="2026-11-23T02:00:04Z")
    assert waiting(creating, None, [pulled, pulling], now=NOW).text == "its pod is started on node gpu-7"


def test_the_newest_event_counts():
    """Whatever order they come in, and however they tell when they were seen last."""
    old = event("FailedCreate", "Error creating: old", lastTimestamp=MADE)
    new = {"reason": "FailedCreate", "message": "Error creating: new", "series": {"lastObservedTime": "2026-11-23T02:00:09.217047Z"}}
    assert "new" in waiting(None, {}, [new, old], now=NOW).text


def test_a_node_that_does_not_answer():
    """It is said of a pod that runs, since nothing else is known of it."""
    lost = {"type": "Ready", "status": "False", "reason": "NodeLost"}
    assert "node gpu-7 does not answer (NodeLost)" in trouble(pod(conditions=[lost]))
    assert trouble(pod()) == ""


texts = st.text(max_size=60)


@given(reason=texts, message=texts, told=st.lists(st.tuples(st.sampled_from(["FailedCreate", "FailedMount", "Failed"]), texts), max_size=3))
def test_whatever_a_cluster_says_is_a_wait_at_least(reason: str, message: str, told: list[tuple[str, str]]):
    """Words that nobody has seen neither break anything nor end a job."""
    events = [event(kind, words) for kind, words in told]
    assert waiting(pod({"reason": reason, "message": message}), None, events, now=NOW).text
    assert waiting(pod(unscheduled=message), None, events, now=MUCH_LATER).text
    assert waiting(None, None, events, now=NOW).text
