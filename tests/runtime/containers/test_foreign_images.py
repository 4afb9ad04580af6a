"""Work in images that know nothing of us: another Python, no Python, no shell."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from contracts.runtime import ended, job_file, submitted, wait_until
from trainings import STEPS

from airflow_dla.artifacts import Store
from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import Exit, ExitReason

Run = Callable[..., Exit]
Published = Callable[[Exit], dict[str, str]]

_FUNCTION = """
import sys
def main(job):
    numbers = (job.inputs["train"].path / "numbers.csv").read_text().split()
    job.log(step=1, total=sum(map(int, numbers)))
    job.checkpoint.save(lambda folder: (folder / "state").write_text("1"))
    (job.outputs["model"].path / "model.txt").write_text("%d.%d" % sys.version_info[:2])
"""

#: Takes a second, in which what it uses is seen.
_SCRIPT = """
import os, pathlib, sys, time
time.sleep(1)
numbers = pathlib.Path(os.environ["DLA_IN"], "train", "numbers.csv").read_text().split()
print("total=%d" % sum(map(int, numbers)))
pathlib.Path(os.environ["DLA_OUT"], "model", "model.txt").write_text("%d.%d" % sys.version_info[:2])
"""


@pytest.mark.parametrize(("image", "python"), [("base_image", "3.11"), ("foreign_image", "3.9")], indirect=["image"])
def test_function_and_script(run: Run, launch: Callable[..., Launch], published: Published, numbers: Any, image: str, python: str):  # noqa: PLR0917 - fixtures
    """Inputs in, outputs out, metrics read: the same in an image with our Python and in one with only an older."""
    data = {"inputs": {"train": numbers}, "outputs": ("model",)}
    found = run(replace(launch(_FUNCTION, "work:main", "job.1", **data), image=image))
    assert (published(found), found.metrics) == ({"model.txt": python}, {"total": 7.0})
    script = launch(_SCRIPT, ["python", "work.py"], "job.2", metrics={"total": r"total=(\d+)"}, **data)
    found = run(replace(script, image=image))
    assert (published(found), found.metrics) == ({"model.txt": python}, {"total": 7.0})
    assert found.peaks["memory"] > 0


@pytest.mark.parametrize("image", ["bare_image", "shell_less_image"], indirect=True)
def test_no_python(run: Run, store: Store, published: Published, numbers: Any, image: str):
    """Without a Python: a command, with folders for arguments, and metrics read from its log."""
    command = ["cp", "-v", "{inputs.train}/numbers.csv", "{outputs.model}"] if "shell-less" in image else [
        "sh", "-c", 'cp /dla/in/train/numbers.csv "$DLA_OUT/model" && echo total=7'
    ]  # fmt: skip
    job = job_file(
        "job.1", command, store=store.url, inputs={"train": numbers}, outputs=("model",), metrics={"total": r"total=(\d+)"}, code=None
    )
    found = run(Launch(job=job, image=image))
    assert published(found) == {"numbers.csv": "1\n2\n4\n"}
    assert found.metrics == ({"total": 7.0} if "bare" in image else {})


def test_preempted_and_resumed(docker: DockerRuntime, launch: Callable[..., Launch], published: Published, base_image: str):
    """A preempted training frees its place within its grace, and the next attempt goes on from its last checkpoint."""
    fields = {"outputs": ("model",), "args": {"steps": 10_000}, "checkpoint": "job"}
    submitted(docker, replace(launch(STEPS, "work:main", "job.1", **fields), image=base_image))
    wait_until(lambda: b'"step":5' in docker.logs("job.1", 0).data.replace(b" ", b""))
    began = time.monotonic()
    docker.cancel("job.1", ExitReason.PREEMPTED)
    assert ended(docker, "job.1").reason is ExitReason.PREEMPTED
    assert time.monotonic() - began < 5 + 5  # its grace, and five seconds
    reached = int(docker.logs("job.1", 0).data.split(b"to ")[1].split()[0])
    fields["args"] = {"steps": reached + 2}
    submitted(docker, replace(launch(STEPS, "work:main", "job.2", **fields), image=base_image))
    found = ended(docker, "job.2")
    assert docker.logs("job.2", 0).data.startswith(b"from %d\n" % reached)
    assert published(found) == {"steps": str(reached + 2)}


def test_killed_and_resumed(docker: DockerRuntime, launch: Callable[..., Launch], base_image: str, docker_engine: Any):
    """A training that was killed without warning loses one checkpoint interval at most."""
    fields = {"outputs": ("model",), "args": {"steps": 10_000}, "checkpoint": "job"}
    handle = submitted(docker, replace(launch(STEPS, "work:main", "job.1", **fields), image=base_image))
    wait_until(lambda: b'"step":20' in docker.logs("job.1", 0).data.replace(b" ", b""))
    with docker_engine.client() as client:
        client.kill(handle["container"])
    assert ended(docker, "job.1").reason is ExitReason.KILLED
    reached = docker.logs("job.1", 0).data.count(b'"step"')
    fields["args"] = {"steps": 1}
    submitted(docker, replace(launch(STEPS, "work:main", "job.2", **fields), image=base_image))
    ended(docker, "job.2")
    resumed = int(docker.logs("job.2", 0).data.split()[1])
    assert reached - 1 <= resumed <= reached + 1


def test_output_that_leads_out(run: Run, launch: Callable[..., Launch], base_image: str):
    """A link out of an output's folder is not followed by those who publish."""
    code = "import os\ndef main(job):\n    os.symlink('/etc/shadow', job.outputs['model'].path / 'x')\n"
    found = run(replace(launch(code, outputs=("model",)), image=base_image))
    assert found.reason is ExitReason.USER_ERROR
    assert "model" in found.message
    assert "link" in found.message


def test_edited_code_runs(run: Run, launch: Callable[..., Launch], base_image: str):
    """An edit of the code is what the next submit runs, without a build, within seconds."""
    began = time.monotonic()
    for number in (1, 2):
        found = run(replace(launch(f"def main(job):\n    job.log(edit={number})\n", "work:main", f"job.{number}"), image=base_image))
        assert found.metrics == {"edit": float(number)}
    assert time.monotonic() - began < 10


def test_missing_input(run: Run, launch: Callable[..., Launch], base_image: str, numbers: Any, store: Store):
    """An input whose bytes are gone ends the attempt with its name, and nothing was started."""
    gone = replace(numbers, digest="sha256:" + "0" * 64)
    found = run(replace(launch(_FUNCTION, inputs={"train": gone}), image=base_image))
    assert found.reason in {ExitReason.USER_ERROR, ExitReason.LOST}
    assert "input 'train'" in found.message
