"""The objects that make an attempt, and the patches that change them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.kubernetes.schemas import VERSIONS, check

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime import Launch
from airflow_dla.runtime.facts import Stop
from airflow_dla.runtime.kubernetes import body, names, pods
from airflow_dla.runtime.kubernetes.bundle import Bundle
from airflow_dla.specs import Exit, ExitReason, Grant, Part, PlaceSpec

Make = Callable[..., Any]
GIB = 2**30
PART = Part(run_id="0d9f.2", port=20_001)


def made(launch: Launch, place: PlaceSpec, **changes: Any) -> dict[str, Any]:
    """Return a launch's Job."""
    return body.job(launch, place, workspace="0f3a9c21-77aa", runner="dla-runner-0a", **changes)


def pod_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pod of a Job."""
    return dict(document["spec"]["template"]["spec"])


def main_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the job's own container."""
    return dict(pod_of(document)["containers"][0])


def variables(container: Mapping[str, Any]) -> dict[str, Any]:
    """Return a container's environment."""
    return {found["name"]: found.get("value", found.get("valueFrom")) for found in container["env"]}


def test_a_plain_command_has_nothing_of_ours(launch: Make, place: Make):
    """One container, not suspended: one call starts it."""
    document = made(launch(), place())
    pod = pod_of(document)
    assert (document["spec"]["suspend"], "initContainers" in pod, len(pod["containers"])) == (False, False, 1)
    assert [found["name"] for found in pod["volumes"]] == ["dla", "tmp"]
    assert (main_of(document)["command"], main_of(document)["args"]) == (["python"], ["train.py"])
    assert names.JOB not in document["spec"]["template"]["metadata"]["annotations"]


def test_members_are_found_by_the_network(job: Make, launch: Make, place: Make):
    """The pods of a distributed job say that they belong together, those of others say nothing of the kind."""
    alone = made(launch(), place())["spec"]["template"]["metadata"]["labels"]
    together = made(launch(job=job(part=PART)), place())["spec"]["template"]["metadata"]["labels"]
    assert names.MEMBERS not in alone
    assert together == {**alone, names.MEMBERS: "0d9f.2"}


def test_never_a_second_pod(launch: Make, place: Make):
    """Whatever becomes of it, a Job makes no other, and is gone some day."""
    found = made(launch(), place(keep="1h"))["spec"]
    assert (found["backoffLimit"], found["parallelism"], found["completions"], found["podReplacementPolicy"]) == (0, 1, 1, "Failed")
    assert {rule["action"] for rule in found["podFailurePolicy"]["rules"]} == {"FailJob"}
    assert found["ttlSecondsAfterFinished"] == 3600 + 86400
    assert found["template"]["spec"]["restartPolicy"] == "Never"


def test_closed_by_default(launch: Make, place: Make):
    """Nothing asked for: not root, no rights, no token, nothing of the image writable."""
    document = made(launch(), place())
    pod, rights = pod_of(document), main_of(document)["securityContext"]
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert rights == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def test_what_a_place_says_of_its_pods(launch: Make, place: Make):
    """Account, classes, secrets of registries, labels and taints of nodes are the place's."""
    where = place(
        service_account="train", priority_class="low", runtime_class="nvidia", image_pull_secrets=["registry"], user="1000:100",
        node_selector={"pool": "gpu"}, tolerations=[{"key": "gpu", "operator": "Exists"}],
    )  # fmt: skip
    pod = pod_of(made(launch(), where))
    assert (pod["serviceAccountName"], pod["priorityClassName"], pod["runtimeClassName"]) == ("train", "low", "nvidia")
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"pool": "gpu"}, [{"key": "gpu", "operator": "Exists"}])
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]) == (1000, 100)


def test_the_node_that_was_granted(launch: Make, place: Make, job: Make):
    """With our allocator the pod runs there and nowhere else; Kueue's pods go where the cluster puts them."""
    pinned = pod_of(made(launch(), place()))["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert pinned["nodeSelectorTerms"] == [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-7"]}]}]
    queues = place(allocator="kueue", queue="train", workload_priorities={"high": 10})
    queued = made(launch(job=job(grant=Grant(id="0d9f.2", node="k8s")), priority=10), queues)
    assert "affinity" not in pod_of(queued)
    assert (queued["spec"]["suspend"], queued["metadata"]["labels"][names.QUEUE]) == (True, "train")
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "high"


def test_what_is_staged_is_beside_it(launch: Make, place: Make, job: Make):
    """A job with outputs has two containers of ours, in the helper's image; it sees only its own part of their folder."""
    document = made(launch(job=job(outputs=("model",))), place(helper="python:3.13"))
    pod = pod_of(document)
    fetch, mate = pod["initContainers"]
    assert (fetch["name"], mate["name"], fetch["image"], mate["image"]) == ("fetch", "mate", "python:3.13", "python:3.13")
    assert (mate["restartPolicy"], "restartPolicy" in fetch) == ("Always", False)
    mounts = {found["mountPath"]: found for found in main_of(document)["volumeMounts"]}
    assert mounts["/dla"]["subPath"] == "dla"
    assert "/control" not in mounts
    assert "/opt/dla/agents" not in mounts
    assert "/dla/job.json" not in mounts
    assert [found["mountPath"] for found in fetch["volumeMounts"]] == ["/control", "/opt/dla/boot", "/opt/dla/job"]
    assert [found["mountPath"] for found in mate["volumeMounts"]] == ["/control"]
    assert fetch["command"] == [
        "python3", "/opt/dla/boot/agents.zip", "/control", "fetch", '{"job": "/opt/dla/job/job.json", "owner": [65532, 65532]}',
    ]  # fmt: skip
    assert mate["command"] == ["python3", "/control/agents", "stay", "/control", '{"owner": [65532, 65532]}']
    assert document["spec"]["template"]["metadata"]["annotations"][names.JOB] == document["metadata"]["annotations"][names.JOB]
    assert (pod["terminationGracePeriodSeconds"], pod["shareProcessNamespace"]) == (5 + pods.PUBLISH_S, True)


def test_without_a_helper_the_jobs_own_image_fetches(launch: Make, place: Make, job: Make):
    """A cluster without a registry needs no other image."""
    assert pod_of(made(launch(job=job(outputs=("model",))), place()))["initContainers"][0]["image"] == "python:3.12"


def test_a_function_runs_in_our_runner(launch: Make, place: Make, job: Make):
    """The runner's sources are mounted, read-only."""
    found = main_of(made(launch(job=job("train:main")), place()))
    assert [*found["command"], *found["args"]] == ["python3", "/opt/dla/agents", "inside", "/dla", "alone"]
    assert {"name": "dla", "mountPath": "/opt/dla/agents", "subPath": "agents", "readOnly": True} in found["volumeMounts"]


def test_ranks_need_the_runner_and_perhaps_nothing_else(launch: Make, place: Make, job: Make):
    """A member that stages nothing has one container, with our runner in it."""
    document = made(launch(job=job(part=PART)), place())
    assert "initContainers" not in pod_of(document)
    found = main_of(document)
    assert [*found["command"], *found["args"]] == ["python3", "/opt/dla/boot/agents.zip", "/dla", "inside", "alone"]
    assert {"name": "job", "mountPath": "/dla/job.json", "subPath": "job.json", "readOnly": True} in found["volumeMounts"]
    assert [found["name"] for found in pod_of(document)["volumes"]] == ["dla", "runner", "job", "tmp"]


def test_secrets_and_metrics_need_nothing_of_ours(launch: Make, place: Make, job: Make):
    """Secrets are variables, metrics are read from the log: an image without Python will do."""
    document = made(launch(job=job(metrics={"auc": r"auc=(\S+)"}), secrets={"TOKEN": "s3cr3t"}), place())
    assert "initContainers" not in pod_of(document)
    assert variables(main_of(document))["TOKEN"] == {"secretKeyRef": {"name": document["metadata"]["name"], "key": "TOKEN"}}
    assert document["spec"]["suspend"] is True


def test_the_secret_goes_with_its_job(launch: Make, place: Make):
    """It is named like the Job, which owns it, and nobody changes it."""
    asked = launch(secrets={"TOKEN": "s3cr3t"})
    owner = made(asked, place())
    found = body.secret(asked, {**owner, "metadata": {**owner["metadata"], "uid": "u-1"}}, workspace="0f3a9c21-77aa")
    check(found)
    assert base64.b64decode(found["data"]["TOKEN"]) == b"s3cr3t"
    assert found["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": owner["metadata"]["name"], "uid": "u-1"}
    ]
    assert (found["metadata"]["name"], found["immutable"]) == (owner["metadata"]["name"], True)


def test_gpus_are_shown_by_who_hands_them_out(launch: Make, place: Make, job: Make):
    """A pod with GPUs says nothing of which; one without sees none, whatever image and agent say."""
    env = {"NVIDIA_VISIBLE_DEVICES": "all", "CUDA_VISIBLE_DEVICES": "0"}
    without = variables(main_of(made(launch(job=job(env=env)), place())))
    assert (without["NVIDIA_VISIBLE_DEVICES"], without["CUDA_VISIBLE_DEVICES"]) == ("void", "")
    found = main_of(made(launch(job=job(env=env, amounts={"gpu": 2.0})), place(gpu_resource="amd.com/gpu")))
    assert not {"NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"} & variables(found).keys()
    assert found["resources"] == {"requests": {"amd.com/gpu": "2"}, "limits": {"amd.com/gpu": "2"}}


def test_slices_have_the_clusters_names(launch: Make, place: Make, job: Make):
    """A place may say what its cluster calls them."""
    asked = launch(job=job(amounts={"mig-1g.10gb": 1.0}))
    assert main_of(made(asked, place()))["resources"]["limits"] == {"nvidia.com/mig-1g.10gb": "1"}
    assert main_of(made(asked, place(resources={"mig-1g.10gb": "nvidia.com/gpu"})))["resources"]["limits"] == {"nvidia.com/gpu": "1"}


def test_a_share_of_a_gpu_is_refused(launch: Make, place: Make, job: Make):
    """No device plugin hands one out; the message says what would do."""
    with pytest.raises(LaunchRefused, match=r"0\.5 gpu was granted on place 'k8s'.*whole devices only; ask for request=\{'gpu': 1\}"):
        made(launch(job=job(amounts={"gpu": 0.5})), place())


def test_files_in_memory_and_on_disk(launch: Make, place: Make, job: Make):
    """Shared memory and ``/tmp`` have their size, the disk that was granted limits what is written to it."""
    document = made(launch(job=job(amounts={"memory": 1.0, "shm": 2.0, "disk": 10.0})), place())
    volumes = {found["name"]: found for found in pod_of(document)["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": str(2 * GIB)}
    assert volumes["tmp"]["emptyDir"]["sizeLimit"] == str(GIB // 2)
    assert volumes["dla"]["emptyDir"]["sizeLimit"] == str(10 * GIB)
    assert main_of(document)["resources"]["limits"]["ephemeral-storage"] == str(10 * GIB)
    assert {found["mountPath"] for found in main_of(document)["volumeMounts"]} >= {"/tmp", "/dev/shm", "/dla/tmp", "/dla/code"}


def test_an_image_that_may_be_written_has_its_own_tmp(launch: Make, place: Make):
    """Nothing lies in memory then."""
    document = made(launch(), place({"read_only": False}))
    assert [found["name"] for found in pod_of(document)["volumes"]] == ["dla"]
    assert main_of(document)["securityContext"]["readOnlyRootFilesystem"] is False


def test_a_volume_for_each_job(launch: Make, place: Make, job: Make):
    """It is as large as the disk that was granted, or as the place says."""
    where = place(scratch={"storage_class": "fast", "size": "100GiB"})
    for amounts, size in (({}, 100 * GIB), ({"disk": 7.0}, 7 * GIB)):
        document = made(launch(job=job(amounts=amounts)), where)
        spec = pod_of(document)["volumes"][0]["ephemeral"]["volumeClaimTemplate"]["spec"]
        assert (spec["storageClassName"], spec["resources"]["requests"]["storage"]) == ("fast", str(size))
        assert "limits" not in main_of(document)["resources"]


def test_a_claim_that_all_share(launch: Make, place: Make, job: Make):
    """Each attempt has a folder of its own on it."""
    document = made(launch(job=job(outputs=("model",))), place(scratch="pvc:jobs"))
    name = document["metadata"]["name"]
    assert pod_of(document)["volumes"][0]["persistentVolumeClaim"] == {"claimName": "jobs"}
    assert main_of(document)["volumeMounts"][0] == {"name": "dla", "mountPath": "/dla", "subPath": f"{name}/dla"}
    assert pod_of(document)["initContainers"][0]["volumeMounts"][0] == {"name": "dla", "mountPath": "/control", "subPath": name}


def test_a_marker_never_makes_a_pod(place: Make):
    """It takes the name of an attempt that was stopped before it was launched, and says so."""
    found = body.marker("0d9f.2", place(), Stop(ExitReason.STOPPED, 7.0), workspace="w")
    check(found)
    assert (found["metadata"]["name"], found["spec"]["parallelism"]) == (names.name("w", "0d9f.2"), 0)
    assert json.loads(found["metadata"]["annotations"][names.STOP]) == {"reason": "stopped", "at": 7.0}
    assert names.JOB not in found["metadata"]["annotations"]


def test_the_runners_map():
    """It holds the archive, for all attempts of this version."""
    found = body.runner(Bundle("dla-runner-0a", b"PK"), workspace="w")
    check(found)
    assert (base64.b64decode(found["binaryData"]["agents.zip"]), found["immutable"]) == (b"PK", True)
    assert names.ATTEMPT not in found["metadata"]["labels"]


def test_patches(launch: Make, place: Make):
    """The first word counts: one that comes after another is refused, since the Job has changed."""
    document = made(launch(), place())
    stored = {"metadata": {**document["metadata"], "resourceVersion": "41"}}
    test, add = body.stopped(stored, Stop(ExitReason.PREEMPTED, 9.0))
    assert test == {"op": "test", "path": "/metadata/resourceVersion", "value": "41"}
    assert (add["path"], json.loads(add["value"])) == ("/metadata/annotations/airflow-dla~1stop", {"reason": "preempted", "at": 9.0})
    bare = {"metadata": {"resourceVersion": "41"}}
    _, add = body.concluded(bare, Exit(reason=ExitReason.LOST))
    assert (add["path"], list(add["value"])) == ("/metadata/annotations", [names.EXIT])
    assert body.unsuspend() == {"spec": {"suspend": False}}
    assert names.GRANT in body.regranted(Grant(id="a", node="n"))["metadata"]["annotations"]


def test_a_job_too_large_to_be_noted_is_refused(launch: Make, place: Make, job: Make):
    """The message says how large it is, and what would do."""
    with pytest.raises(LaunchRefused, match=r"attempt 0d9f\.2: its arguments.*take \d+ bytes.*204800; hand over what is large as an input"):
        made(launch(job=job(args={"config": "x" * 250_000})), place())


def expanded(text: str) -> str:
    """Expand text as a kubelet does, with no variable known."""
    return re.sub(r"\$(\$|\([^)]*\)|)", lambda match: "$" if match[1] == "$" else match[0], text)


@given(text=st.text("$()ab", max_size=12))
def test_nothing_is_put_in_place_of_what_a_program_is_told(text: str):
    """A cluster reads ``$(NAME)`` as a variable, which may be a secret; what a program gets is what was written."""
    found = pods.literal(text)
    assert expanded(found) == text
    assert not re.search(r"(?<!\$)(\$\$)*\$\(", found)


amounts = st.dictionaries(st.sampled_from(["cpu", "memory", "shm", "disk", "network"]), st.floats(0.001, 512), max_size=5) | st.integers(
    1, 8
).map(lambda gpus: {"gpu": float(gpus), "cpu": 4.0})
jobs = st.fixed_dictionaries(
    {
        "entrypoint": st.sampled_from([("python", "train.py"), "train:main", ("sh", "-c", "echo $(TOKEN) {seed}")]),
        "amounts": amounts,
        "outputs": st.sampled_from([(), ("model",)]),
    }
)
places = st.fixed_dictionaries(
    {
        "scratch": st.sampled_from(["emptydir", "pvc:jobs", {"size": "1GiB"}]),
        "policy": st.fixed_dictionaries({"read_only": st.booleans()}),
    }
)
secrets = st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), st.just("s3cr3t-v4lue"), max_size=3)


@settings(max_examples=30, deadline=None)
@given(asked=jobs, where=places, secrets=secrets, version=st.sampled_from(VERSIONS))
def test_every_job_is_one_that_clusters_take(request: pytest.FixtureRequest, asked: Any, where: Any, secrets: Any, version: str):
    """The API's own schema takes it; what is requested is the limit; no secret is in it; every mount has its volume."""
    launch, place, job = (request.getfixturevalue(name) for name in ("launch", "place", "job"))
    document = made(launch(job=job(**asked), secrets=secrets), place(**where))
    check(document, version)
    resources = main_of(document)["resources"]
    assert resources.get("requests") == resources.get("limits")
    assert "s3cr3t-v4lue" not in json.dumps(document)
    pod = pod_of(document)
    known = {found["name"] for found in pod["volumes"]}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert {found["name"] for found in container["volumeMounts"]} <= known
        paths = [found["mountPath"] for found in container["volumeMounts"]]
        assert len(paths) == len(set(paths))
    assert document["spec"]["suspend"] is bool(secrets)
