"""What goes into pods and comes out of them: code, inputs, secrets, outputs, checkpoints, by whoever follows; no credential goes along."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cluster_runtime import small
from clusters import REAL, Site
from contracts.runtime import ended, submitted, wait_until
from trainings import STEPS

from airflow_dla.runtime import Launch
from airflow_dla.runtime.kubernetes import names
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import Exit, ExitReason, Grant

pytestmark = pytest.mark.timeout(240)

Runtimes = Callable[..., KubernetesRuntime]

_SECRET = "hunter2-0f8a51"


@pytest.fixture
def work(launch: Callable[..., Launch], numbers: Any) -> Callable[..., Launch]:
    """Return a function that makes a training of so many steps."""

    def work_(steps: int, attempt: str = "job.1", code: str = STEPS) -> Launch:
        grant = Grant(id=attempt, node="cluster", amounts={"cpu": 0.2, "memory": 0.25})
        fields = {"inputs": {"train": numbers}, "outputs": ("model",), "args": {"steps": steps}, "checkpoint": "job", "grant": grant}
        return launch(code, "work:main", attempt, **fields)

    return work_


def everything(site: Site, attempt: str) -> str:
    """Return all that the cluster shows of an attempt, but for Secrets."""
    kinds = (("batch/v1", "jobs"), ("v1", "pods"), ("v1", "configmaps"), ("v1", "services"), ("v1", "events"))
    found = [one for version, plural in kinds for one in site.ask("GET", site.at(version, plural))["items"]]
    assert any(names.attempt_of(one) == attempt for one in found)
    return json.dumps(found)


def test_a_function(pods: KubernetesRuntime, work: Callable[..., Launch], published: Callable[[Exit], dict[str, str]]):
    """Code and inputs come in, metrics are read, the output is an artifact, every step of it was saved, and what it used is known."""
    submitted(pods, work(3), 60)
    found = ended(pods, "job.1", 60)
    assert published(found) == {"steps": "3"}
    assert (found.metrics["total"], found.metrics["loss"]) == (7.0, 1 / 3)
    assert 0 < found.peaks["memory"] < 0.25
    assert found.peaks["cpu_s"] > 0
    assert pods.logs("job.1", 0).data.startswith(b"from 0\n")


def test_a_command_in_another_image(site: Site, runtimes: Runtimes, numbers: Any, published: Callable[[Exit], dict[str, str]]):
    """Where the image need have no Python, ours work in the helper's image; metrics are read from the log, and what it used is seen."""
    runtime = runtimes(helper=site.image)
    command = ["sh", "-c", 'cp /dla/in/train/numbers.csv "$DLA_OUT/model" && echo total=7 && sleep 1']
    fields = {"inputs": {"train": numbers}, "outputs": ("model",), "metrics": {"total": r"total=(\d+)"}}
    submitted(runtime, small(command, image=site.pythonless, **fields), 60)
    found = ended(runtime, "job.1", 60)
    assert published(found) == {"numbers.csv": "1\n2\n4\n"}
    assert found.metrics == {"total": 7.0}
    assert 0 < found.peaks["memory"] < 0.25
    assert found.peaks["cpu_s"] > 0


@pytest.mark.parametrize("site", REAL, indirect=True)
def test_preempted_and_resumed(pods: KubernetesRuntime, work: Callable[..., Launch], published: Callable[[Exit], dict[str, str]]):
    """A preempted training frees its place within its grace, and the next attempt goes on from its last checkpoint."""
    submitted(pods, work(10_000), 60)
    wait_until(lambda: b'"step":5' in pods.logs("job.1", 0).data.replace(b" ", b""), 60)
    began = time.monotonic()
    pods.cancel("job.1", ExitReason.PREEMPTED)
    found = ended(pods, "job.1", 60)
    assert found.reason is ExitReason.PREEMPTED, found
    assert time.monotonic() - began < 5 + 10  # its grace, and what keeping the checkpoint takes
    reached = int(pods.logs("job.1", 0).data.split(b"to ")[1].split()[0])
    submitted(pods, work(reached + 2, "job.2"), 60)
    found = ended(pods, "job.2", 60)
    assert pods.logs("job.2", 0).data.startswith(b"from %d\n" % reached)
    assert published(found) == {"steps": str(reached + 2)}


@pytest.mark.parametrize("site", REAL, indirect=True)
def test_deleted_and_resumed(pods: KubernetesRuntime, site: Site, work: Callable[..., Launch]):
    """A training whose pod somebody deleted goes on from a checkpoint that was taken while it ran."""
    submitted(pods, work(10_000), 60)
    wait_until(lambda: pods.status("job.1").alive and b'"step":100' in pods.logs("job.1", 0).data.replace(b" ", b""), 60)
    site.ask("DELETE", f"{site.at('v1', 'pods', site.pod('job.1')['metadata']['name'])}?gracePeriodSeconds=1")
    assert ended(pods, "job.1", 60).reason is ExitReason.LOST
    submitted(pods, work(1, "job.2"), 60)
    ended(pods, "job.2", 60)
    assert int(pods.logs("job.2", 0).data.split()[1]) > 0


def test_edited_code(pods: KubernetesRuntime, work: Callable[..., Launch]):
    """What was edited a moment ago runs, in the same image, within seconds."""
    submitted(pods, work(1), 60)
    assert ended(pods, "job.1", 60).succeeded
    edited = STEPS.replace('"from"', '"edited, from"')
    began = time.monotonic()
    submitted(pods, work(1, "job.2", edited), 60)
    wait_until(lambda: b"edited" in pods.logs("job.2", 0).data, 30)
    assert time.monotonic() - began < 30
    ended(pods, "job.2", 60)


def test_secrets(pods: KubernetesRuntime, site: Site, work: Callable[..., Launch]):
    """The work sees them; pods, Jobs and all else that people look at do not show them; the Secret goes with its Job."""
    script = f'test "$TOKEN" = "{_SECRET[:7]}"-0f8a51 && echo on && sleep 3 && echo 7 > {{outputs.model}}/n'
    launch = small(["sh", "-c", script], secrets={"TOKEN": _SECRET}, outputs=("model",))
    submitted(pods, launch, 60)
    wait_until(lambda: b"on" in pods.logs("job.1", 0).data)
    shown = everything(site, "job.1")
    assert _SECRET not in shown
    assert base64.b64encode(_SECRET.encode()).decode() not in shown
    assert ended(pods, "job.1", 60).succeeded
    assert _SECRET.encode() not in pods.logs("job.1", 0).data
    secrets = [one["metadata"] for one in site.ask("GET", site.at("v1", "secrets"))["items"] if names.attempt_of(one) == "job.1"]
    assert [one["ownerReferences"][0]["kind"] for one in secrets] == ["Job"]
    pods.collect("job.1")
    wait_until(lambda: not [one for one in site.ask("GET", site.at("v1", "secrets"))["items"] if names.attempt_of(one) == "job.1"], 30)


def test_an_input_that_is_gone(pods: KubernetesRuntime, work: Callable[..., Launch]):
    """A job whose input was deleted ends before it begins, and says which."""
    launch = work(1)
    gone = replace(launch.job.inputs["train"], digest="sha256:" + "0" * 64)
    launch = replace(launch, job=replace(launch.job, inputs={"train": gone}))
    submitted(pods, launch, 60)
    found = ended(pods, "job.1", 60)
    assert not found.succeeded
    assert "0" * 12 in found.message


def test_an_output_that_is_missing(pods: KubernetesRuntime):
    """A job that promises an output and writes none has failed."""
    submitted(pods, small(["true"], outputs=("model",)), 60)
    found = ended(pods, "job.1", 60)
    assert found.reason is ExitReason.USER_ERROR
    assert "output 'model' was never written" in found.message
