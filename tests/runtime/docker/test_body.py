"""The request that makes a container, and the one that changes it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime import Launch
from airflow_dla.runtime.command import AGENTS_DIR
from airflow_dla.runtime.docker.body import body, can_resize, labels, limits_text, name, resources, update, without_disk_limit
from airflow_dla.runtime.docker.facts import EngineFacts, Image
from airflow_dla.specs import Grant, PlaceSpec

Make = Callable[..., Any]
MIB, GIB = 2**20, 2**30
OWN = {"Type": "bind", "Source": "/jobs/0d9f.2/dla", "Target": "/dla", "ReadOnly": False}


@pytest.fixture
def made(launch: Make, place: Make, facts: EngineFacts, image: Image) -> Make:
    """Return a function that makes a body, of defaults unless it is given others."""

    def make(asked: Launch | None = None, where: PlaceSpec | None = None, **changes: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "workspace": "0f3a9c21-77aa", "image": image, "facts": facts, "argv": ("python", "train.py"), "mounts": (OWN,),
            "user": "1000:1000", "stdin": False, **changes,
        }  # fmt: skip
        return body(asked or launch(), where or place(), **given)

    return make


def granted(amounts: Mapping[str, float], **ids: Any) -> Grant:
    """Return a grant of amounts."""
    return Grant(id="0d9f.2", node="gpu1", amounts=amounts, **ids)


def test_closed_by_default(made: Make):
    """Nothing asked for: not root, no rights, nothing of the image writable, no restart, the whole log."""
    found = made()
    host = found["HostConfig"]
    assert (found["User"], host["Privileged"], host["CapDrop"], host["CapAdd"]) == ("1000:1000", False, ["ALL"], [])
    assert (host["SecurityOpt"], host["ReadonlyRootfs"], host["PidsLimit"]) == (["no-new-privileges"], True, 4096)
    assert (host["NetworkMode"], host["IpcMode"], host["AutoRemove"]) == ("bridge", "private", False)
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["LogConfig"]["Config"]["max-file"] == "1"
    assert "StorageOpt" not in host
    assert "DeviceRequests" not in host
    assert "Runtime" not in host


def test_what_runs(made: Make):
    """The image by its id, the command line whole, in the code folder; its own stop signal and health check are off."""
    found = made()
    assert (found["Image"], found["Entrypoint"], found["Cmd"]) == ("sha256:0a", ["python"], ["train.py"])
    assert (found["WorkingDir"], found["StopSignal"], found["StopTimeout"]) == ("/dla/code", "SIGTERM", 5)
    assert found["Healthcheck"] == {"Test": ["NONE"]}
    assert found["Labels"] == {
        "dla.workspace": "0f3a9c21-77aa", "dla.attempt": "0d9f.2", "dla.job": "0d9f", "dla.dag": "digits", "dla.task": "train",
        "dla.image": "python:3.12",
    }  # fmt: skip


def test_labels_of_people_are_not_ours(launch: Make):
    """What is found by cannot be overwritten by what is shown."""
    assert labels(launch(labels={"attempt": "other.1"}), "w")["dla.attempt"] == "0d9f.2"


def test_name():
    """The name is one that engines take."""
    assert name("/my workspace", "0d9f.2") == "dla--my-work-0d9f.2"


def test_secrets_are_not_in_it(made: Make, launch: Make):
    """A secret's value, and its name, are nowhere in the request."""
    found = made(launch(secrets={"TOKEN": "s3cr3t"}), stdin=True)
    assert "s3cr3t" not in json.dumps(found)
    assert "DLA_SECRETS=TOKEN" in found["Env"]
    assert (found["OpenStdin"], found["StdinOnce"], found["AttachStdin"]) == (True, True, True)


def test_limits(made: Make, launch: Make, job: Make):
    """CPUs, memory without swap, CPUs by number and shared memory are those of the grant."""
    host = made(launch(job=job(amounts={"cpu": 1.5, "memory": 2.0, "shm": 1.0}, ids={"cpu_ids": (0, 1)})))["HostConfig"]
    assert (host["NanoCpus"], host["CpusetCpus"], host["ShmSize"]) == (1_500_000_000, "0,1", GIB)
    assert (host["Memory"], host["MemorySwap"], host["MemorySwappiness"]) == (2 * GIB, 2 * GIB, 0)
    assert host["Tmpfs"]["/tmp"].endswith(f"size={GIB}")


def test_what_is_not_granted_is_not_limited(made: Make, launch: Make, job: Make):
    """Without a grant of them, CPUs and memory have no limit."""
    host = made(launch(job=job(amounts={})))["HostConfig"]
    assert not {"NanoCpus", "Memory", "MemorySwap", "MemorySwappiness", "CpusetCpus"} & host.keys()
    assert host["ShmSize"] == 64 * MIB


def test_limits_that_engines_take(facts: EngineFacts):
    """Less than an engine takes becomes its least, more than its host has all of it."""
    assert resources(granted({"cpu": 0.001, "memory": 0.0001}), facts)["Memory"] == 6 * MIB
    assert resources(granted({"cpu": 0.001}), facts)["NanoCpus"] == 10_000_000
    assert resources(granted({"cpu": 64}), facts)["NanoCpus"] == 2_000_000_000


def test_version_2_and_no_swap_limit(facts: EngineFacts):
    """What an engine cannot do is not asked of it."""
    two = dataclasses.replace(facts, cgroup_version=2, swap_limit=False)
    assert resources(granted({"memory": 1.0}), two) == {"Memory": GIB}


@given(cpu=st.floats(0, 1e6), memory=st.floats(0, 1e6))
def test_memory_and_swap_go_together(cpu: float, memory: float):
    """Whatever is granted, both limits on memory are one, and no engine refuses the numbers."""
    facts = EngineFacts(name="e", api_version="1.41", cpus=8, memory_bytes=GIB, cgroup_version=1)
    found = update(granted({"cpu": cpu, "memory": memory}), facts)
    assert found["Memory"] == found["MemorySwap"] >= 6 * MIB
    assert 10_000_000 <= found["NanoCpus"] <= 8 * 10**9
    assert "MemorySwappiness" not in found


def test_can_resize():
    """Only CPUs and memory can be changed, and a limit cannot be taken away."""
    old = granted({"cpu": 1.0, "gpu": 1.0}, cpu_ids=(0,), gpu_ids=("G",))
    assert can_resize(old, granted({"cpu": 2.0, "memory": 0.5, "gpu": 1.0}, cpu_ids=(1,), gpu_ids=("G",)))
    assert not can_resize(old, granted({"gpu": 1.0}, cpu_ids=(1,), gpu_ids=("G",)))
    assert not can_resize(old, granted({"cpu": 1.0, "gpu": 1.0}, gpu_ids=("G",)))
    assert not can_resize(old, granted({"cpu": 1.0, "gpu": 1.0}, cpu_ids=(1,), gpu_ids=("H",)))


def test_limits_text_without_any():
    """A grant of nothing says so."""
    assert limits_text(granted({})) == "docker: no limit asked for"


def test_environment_removes_what_the_image_sets(made: Make, launch: Make, job: Make):
    """A variable that must not be seen is removed; without GPUs CUDA sees none, whatever image and agent say."""
    env = made()["Env"]
    assert "CUDA_VISIBLE_DEVICES=" in env
    assert "NVIDIA_VISIBLE_DEVICES=void" in env
    gpus = launch(job=job(amounts={"gpu": 1.0}, ids={"gpu_ids": ("GPU-7",)}, env={"NVIDIA_VISIBLE_DEVICES": "all"}))
    env = made(gpus)["Env"]
    assert "CUDA_VISIBLE_DEVICES" in env
    assert "NVIDIA_VISIBLE_DEVICES=GPU-7" in env


def test_gpus(made: Make, launch: Make, job: Make, place: Make, facts: EngineFacts):
    """GPUs and slices are asked for by id, with the place's runtime."""
    asked = launch(job=job(amounts={"mig-1g.10gb": 2.0}, ids={"gpu_ids": ("MIG-1", "MIG-2")}))
    host = made(asked, place(runtime="nvidia"), facts=dataclasses.replace(facts, runtimes=("nvidia", "runc")))["HostConfig"]
    assert host["DeviceRequests"] == [{"Driver": "nvidia", "DeviceIDs": ["MIG-1", "MIG-2"], "Capabilities": [["gpu"]]}]
    assert host["Runtime"] == "nvidia"


def test_gpus_without_ids(made: Make, launch: Make, job: Make):
    """GPUs that nobody named cannot be kept apart, so nothing starts."""
    with pytest.raises(LaunchRefused, match=r"granted gpu without saying which.*gpu_ids"):
        made(launch(job=job(amounts={"gpu": 1.0})))


def test_unknown_runtime(made: Make, place: Make):
    """A runtime that the engine lacks is refused with those it has."""
    with pytest.raises(LaunchRefused, match="no runtime 'nvidia', it has runc; install it on gpu1"):
        made(where=place(runtime="nvidia"))


def test_writable_root(made: Make, launch: Make, job: Make, place: Make, facts: EngineFacts):
    """A root that may be written is limited where the driver can, and the limit can be left out."""
    asked, where = launch(job=job(amounts={"disk": 2.0})), place({"read_only": False})
    found = made(asked, where, facts=dataclasses.replace(facts, backing_filesystem="xfs"))
    assert found["HostConfig"]["StorageOpt"] == {"size": str(2 * GIB)}
    assert found["HostConfig"]["Tmpfs"] == {}
    assert "StorageOpt" not in without_disk_limit(found)["HostConfig"]
    assert without_disk_limit(found)["HostConfig"]["ReadonlyRootfs"] is False
    assert "StorageOpt" not in made(asked, where)["HostConfig"]


def test_mounts(made: Make, launch: Make):
    """The attempt's own mounts come first; what the agent mounts at /tmp is its /tmp."""
    host = made(launch(volumes={"/tmp": "scratch", "/data": "/srv/data:ro"}))["HostConfig"]
    assert [mount["Target"] for mount in host["Mounts"]] == ["/dla", "/data", "/tmp"]
    assert host["Tmpfs"] == {}


def test_init(made: Make, facts: EngineFacts):
    """A foreign command gets an init where there is one; our runner is its own."""
    assert made()["HostConfig"]["Init"] is True
    assert made(argv=("/bin/python3", AGENTS_DIR, "inside", "/dla"))["HostConfig"]["Init"] is False
    assert made(facts=dataclasses.replace(facts, has_init=False))["HostConfig"]["Init"] is False


def test_overrides(made: Make, launch: Make, place: Make):
    """What a policy let through is in the request, beside what the place keeps."""
    overrides = {
        "user": "7:7", "stop_signal": "SIGINT", "hostname": "train", "network": "none", "cap_add": ["SYS_PTRACE", "CHOWN"],
        "ulimits": {"nofile": 4096, "core": -1}, "tmpfs": {"/run": "size=1m"}, "security_opt": ["seccomp=unconfined"], "init": False,
    }  # fmt: skip
    found = made(launch(overrides=overrides), place({"capabilities": ["CAP_CHOWN"]}))
    host = found["HostConfig"]
    assert (found["User"], found["StopSignal"], found["Hostname"]) == ("7:7", "SIGINT", "train")
    assert (host["NetworkMode"], host["Init"], host["CapAdd"]) == ("none", False, ["CHOWN", "SYS_PTRACE"])
    assert {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]} == {"core": -1, "nofile": 4096}
    assert sorted(host["Tmpfs"]) == ["/run", "/tmp"]
    assert host["SecurityOpt"] == ["no-new-privileges", "seccomp=unconfined"]


def test_it_is_json(made: Make):
    """The request can be sent as it is."""
    assert json.loads(json.dumps(made())) == made()
