"""Command line and environment in a container, the same as on the local place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.agents import command as local
from airflow_dla.agents import environment as local_environment
from airflow_dla.agents.protocol import JobFile as LocalJobFile
from airflow_dla.agents.protocol import JobFolder
from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime import Launch
from airflow_dla.runtime.command import argv, environment, needs_runner, refuse_without_python, threads
from airflow_dla.specs import Grant, JobFile, UriRef
from airflow_dla.specs.agents import Entrypoint

Make = Callable[..., Any]
#: Variables of an image with CUDA.
IMAGE = {"PATH": "/opt/bin:/bin", "NVIDIA_VISIBLE_DEVICES": "all", "CUDA_VISIBLE_DEVICES": "3", "LANG": "C.UTF-8"}

WORDS = st.one_of(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=8),
    st.sampled_from(["{inputs.data}/x", "{outputs.model}", "{checkpoint}", "{seed}:{threads}", "{other}", "{{seed}}"]),
)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), WORDS, st.lists(st.one_of(WORDS, st.integers()), max_size=3)
)
NAMES = st.from_regex(r"[a-z]{1,8}", fullmatch=True)


@st.composite
def jobs(draw: st.DrawFn) -> JobFile:
    """Draw a job that is a command, with a streamed input and an output."""
    return JobFile(
        attempt="0d9f.2",
        nonce="n",
        entrypoint=Entrypoint(command=("train", *draw(st.lists(WORDS, max_size=3)))),
        grant=Grant(id="0d9f.2", node="gpu1", amounts={"cpu": draw(st.floats(0.01, 64)), "memory": 1.0}),
        store="file:///x",
        checkpoint="0d9f",
        args=draw(st.dictionaries(NAMES, VALUES, max_size=4)),
        inputs={"data": UriRef(uri="s3://bucket/data")},
        outputs=("model",),
        seed=draw(st.integers(0, 2**63)),
        env=draw(st.dictionaries(st.sampled_from(["OMP_NUM_THREADS", "A", "TMPDIR", "CUDA_VISIBLE_DEVICES"]), st.text("ab", max_size=2))),
    )


def as_local(job: JobFile) -> LocalJobFile:
    """Return a job as the local place reads it."""
    fields = json.loads(json.dumps(job.to_mapping()))
    return LocalJobFile(**{**fields, "outputs": tuple(fields.get("outputs", ()))})


@given(jobs())
def test_argv_is_the_local_one(job: JobFile):
    """A command has the same words in a container as on the local place, with the container's folders."""
    assert list(argv(job, None, runner=False)) == local.argv(as_local(job), JobFolder(Path("/dla")))


@given(jobs())
def test_environment_is_the_local_one(job: JobFile):
    """What the local place sets is set in a container, too, to the same values."""
    here = local_environment.environment(as_local(job), JobFolder(Path("/dla")), {}, {})
    there = environment(Launch(job=job), {})
    assert {name: there.get(name) for name in here if name != "PATH"} == {name: value for name, value in here.items() if name != "PATH"}


def test_python(job: Make):
    """The word python stands for the image's Python, where it was looked for."""
    assert argv(job(("python", "train.py")), "/opt/bin/python3", runner=False) == ("/opt/bin/python3", "train.py")
    assert argv(job(("python3", "train.py")), None, runner=False) == ("python3", "train.py")
    assert argv(job(("env", "python")), "/opt/bin/python3", runner=False) == ("env", "python")


def test_runner(job: Make):
    """The runner is started by the image's Python, and by nothing else."""
    assert argv(job("train:main"), "/bin/python3", runner=True) == ("/bin/python3", "/opt/dla/agents", "inside", "/dla")
    with pytest.raises(LaunchRefused, match=r"Python 3\.8"):
        argv(job("train:main"), None, runner=True)


def test_inputs(job: Make):
    """What is copied has a folder, what is streamed an address."""
    inputs = {"a": UriRef(uri="s3://b/a", mode="copy"), "b": UriRef(uri="s3://b/b")}
    assert argv(job(("x", "{inputs.a}", "{inputs.b}"), inputs=inputs), None, runner=False) == ("x", "/dla/in/a", "s3://b/b")


def test_unknown_placeholder(job: Make):
    """A placeholder of nothing is refused with what there is."""
    with pytest.raises(LaunchRefused, match=r"\{inputs.data\} names nothing of this job; it has \{checkpoint\}"):
        argv(job(("x", "{inputs.data}")), None, runner=False)


def test_threads(job: Make):
    """Threads fit the CPUs granted, or those of the engine's host."""
    assert threads(job().grant, 8) == 2
    assert argv(job(("x", "{threads}"), amounts={}), None, runner=False, cpus=8) == ("x", "8")
    assert "OMP_NUM_THREADS" not in environment(Launch(job=job(amounts={})), {})


@pytest.mark.parametrize(
    ("fields", "secrets", "needed"),
    [
        ({}, {}, False),
        ({"metrics": {"auc": "auc=(.*)"}}, {}, True),
        ({}, {"TOKEN": "s3cr3t"}, True),
        ({"entrypoint": "train:main"}, {}, True),
    ],
)
def test_needs_runner(job: Make, fields: dict[str, Any], secrets: dict[str, str], needed: bool):
    """Functions, secrets and metrics are what the runner is for."""
    assert needs_runner(job(**fields), secrets) is needed


def test_without_python(job: Make):
    """Only a function cannot do without a Python."""
    refuse_without_python(job(metrics={"auc": "auc=(.*)"}), "busybox")
    with pytest.raises(LaunchRefused, match=r"'busybox' has no python3 .* the function train:main needs"):
        refuse_without_python(job("train:main"), "busybox")


def test_environment(job: Make):
    """The image's variables stay, ours go before them, the agent's before ours; a secret is not among them."""
    found = environment(Launch(job=job(env={"LANG": "de", "HOME": "/x"}), secrets={"TOKEN": "s3cr3t"}), IMAGE)
    assert (found["LANG"], found["HOME"], found["PATH"], found["TMPDIR"]) == ("de", "/x", "/opt/bin:/bin", "/dla/tmp")
    assert (found["DLA_IN"], found["DLA_OUT"], found["DLA_CHECKPOINT"]) == ("/dla/in", "/dla/out", "/dla/checkpoint")
    assert "TOKEN" not in found


def test_gpus(job: Make):
    """Whole GPUs are shown by the engine; of a share MPS is told how much of threads and memory."""

    def seen(**amounts: float) -> dict[str, str]:
        return environment(Launch(job=job(amounts=amounts, ids={"gpu_ids": ("GPU-7",)})), IMAGE)

    whole, share = seen(gpu=1.0), seen(gpu=0.25, gpu_memory=8.0)
    assert (whole["NVIDIA_VISIBLE_DEVICES"], whole["NVIDIA_DRIVER_CAPABILITIES"]) == ("GPU-7", "compute,utility")
    assert not {name for name in whole if name.startswith("CUDA_")}
    assert (share["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"], share["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"]) == ("25", "0=8192M")
