"""Both sides of the protocol say the same: the runner's own words and airflow_dla.specs."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import job_file

from airflow_dla import specs
from airflow_dla.agents import protocol
from airflow_dla.agents.ending import Ending, conclude
from airflow_dla.specs import ArtifactRef, Exit, ExitReason, Grant, JobFile, Part, UriRef


def test_constants():
    """Version, longest line and kinds of lines are equal."""
    assert (protocol.PROTOCOL, protocol.MAX_LINE, protocol.LINE_KINDS) == (specs.PROTOCOL, specs.MAX_LINE, specs.LINE_KINDS)


def test_job_file_fields_and_defaults():
    """job.json has the same fields with the same defaults on both sides."""
    ours = {field.name: field.default for field in dataclasses.fields(protocol.JobFile) if field.default is not dataclasses.MISSING}
    theirs = {field.name: field.default for field in dataclasses.fields(JobFile) if field.default is not dataclasses.MISSING}
    assert ours == theirs
    assert {field.name for field in dataclasses.fields(protocol.JobFile)} == {field.name for field in dataclasses.fields(JobFile)}


def test_job_file_is_read_as_written(tmp_path: Path):
    """What the runtime writes, the runner reads: full and with every default."""
    digest = "sha256:" + "0" * 64
    full = job_file(
        "job.3", ["python", "x.py"], args={"a": [1]}, outputs=("model",), seed=7, code=ArtifactRef(digest=digest, kind="code"),
        inputs={"train": ArtifactRef(digest=digest), "far": UriRef(uri="s3://b/x")}, metrics={"a": "(.)"}, env={"A": "1"},
        run_timeout_s=5.0,
        part=Part(run_id="job.3", node_rank=1, nodes=2, first_rank=1, world_size=2, port=20_001),
        grant=Grant(id="job.3", node="n", amounts={"cpu": 1.5}, cpu_ids=(0, 1), gpu_ids=("0",)),
    )  # fmt: skip
    for written in (full, job_file()):
        (tmp_path / "job.json").write_text(json.dumps(written.to_mapping()))
        read = protocol.JobFile.read(tmp_path / "job.json")
        raw = {
            name: getattr(read, name)
            for name in ("attempt", "nonce", "args", "outputs", "seed", "grace_s", "run_timeout_s", "metrics", "env")
        }
        assert raw == {name: getattr(written, name) for name in raw}
        assert read.entrypoint == written.entrypoint.to_mapping()
        assert (read.amounts, read.cpu_ids, read.gpu_ids) == (written.grant.amounts, written.grant.cpu_ids, written.grant.gpu_ids)
        assert JobFile.from_mapping(dataclasses.asdict(read)).to_mapping() == written.to_mapping()


def test_newer_keys_are_passed_over_and_other_versions_refused(tmp_path: Path):
    """A key nobody knows yet does no harm; a version two steps away is refused."""
    path = tmp_path / "job.json"
    path.write_text(json.dumps({**job_file().to_mapping(), "tomorrow": 1}))
    assert protocol.JobFile.read(path).attempt == "job.1"
    path.write_text(json.dumps({**job_file().to_mapping(), "protocol": 3}))
    with pytest.raises(protocol.JobError, match="speaks protocol 3"):
        protocol.JobFile.read(path)


def job_of(tmp_path: Path, **fields: Any):
    """Return a job's file as the keeper reads it, and its folder."""
    (tmp_path / "job.json").write_text(json.dumps(job_file(**fields).to_mapping()))
    return protocol.JobFile.read(tmp_path / "job.json"), protocol.JobFolder(tmp_path)


@pytest.mark.parametrize(
    ("end", "reason", "said"),
    [
        (Ending(1.0, code=0), ExitReason.SUCCEEDED, ""),
        (Ending(1.0, code=1), ExitReason.USER_ERROR, "exited with status 1"),
        (Ending(1.0, code=-11), ExitReason.USER_ERROR, "crashed with SIGSEGV"),
        (Ending(1.0, code=-9), ExitReason.KILLED, "killed by SIGKILL from outside"),
        (Ending(1.0, code=-9, oom_kills=1), ExitReason.OUT_OF_MEMORY, "the kernel killed 1 of its processes under a limit of 0.25 GiB"),
        (Ending(1.0, code=0, oom_kills=1), ExitReason.SUCCEEDED, ""),
        (Ending(1.0, code=-9, over_memory=2**30), ExitReason.OUT_OF_MEMORY, "it held 1.00 GiB"),
        (Ending(1.0, code=-15, stop="preempted"), ExitReason.PREEMPTED, "asked to stop and ended by itself"),
        (Ending(1.0, code=-9, stop="stopped", hard=True), ExitReason.STOPPED, "did not end within 5 s and was killed"),
        (Ending(1.0, code=-15, stop="timed_out", own_timeout=True), ExitReason.TIMED_OUT, "run_timeout of 9 s"),
        (Ending(0.0, stop="stopped"), ExitReason.STOPPED, "stopped before it started"),
        (Ending(1.0, code=0, error=("lost", "output 'x': full")), ExitReason.LOST, "output 'x': full"),
    ],
)
def test_exit_is_read_as_written(tmp_path: Path, end: Ending, reason: ExitReason, said: str):
    """Every end of the keeper is an Exit: reason told apart, code or signal, last metrics, peaks."""
    job, folder = job_of(tmp_path, run_timeout_s=9.0)
    lines = protocol.Lines("n0nce", os.open(folder.log, os.O_RDWR | os.O_CREAT | os.O_APPEND), folder.lines)
    lines.say("metric", values={"loss": 2.0}, step=1)
    lines.say("metric", values={"loss": 1.0, "bad": "nan"})
    with folder.lines.open("a") as file:
        file.write('{"cut off')
    digest = "sha256:" + "0" * 64
    written = json.loads(
        json.dumps(conclude(job, folder, end, {"model": {"dla": "artifact", "digest": digest, "kind": "model", "size": 3}}))
    )
    read = Exit.from_mapping(written)
    assert read.reason is reason
    assert said in read.message
    assert read.metrics == {"loss": 1.0}
    assert set(read.outputs) == ({"model"} if reason is ExitReason.SUCCEEDED else set())
    assert set(read.peaks) == {"memory", "cpu_s"}
    assert (read.code, read.signal) == ((end.code, None) if (end.code or 0) >= 0 else (None, -end.code))


def test_the_runner_s_own_word_comes_before_a_guess(tmp_path: Path):
    """A line of kind error gives reason and message."""
    job, folder = job_of(tmp_path)
    lines = protocol.Lines("n0nce", os.open(folder.log, os.O_RDWR | os.O_CREAT | os.O_APPEND), folder.lines)
    lines.say("error", reason="out_of_memory", message="MemoryError")
    found = Exit.from_mapping(conclude(job, folder, Ending(1.0, code=1), {}))
    assert (found.reason, found.message) == (ExitReason.OUT_OF_MEMORY, "MemoryError")
