"""What containers print: any bytes, any length, kept when they are gone."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

from contracts.runtime import ended, job_file, submitted

from airflow_dla.control.lines import read
from airflow_dla.runtime import Launch, LogSlice
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import Exit

Run = Callable[..., Exit]

_MB = 10**6


def followed(docker: DockerRuntime, attempt: str) -> tuple[int, list[str]]:
    """Read a log as followers do, whole lines only; return its bytes and what the last piece said."""
    offset, lines = 0, [""]
    while True:
        alive = docker.status(attempt).alive
        piece = docker.logs(attempt, offset, limit=1 << 20)
        said = read(piece.data, "n0nce", last=not alive and len(piece.data) < 1 << 20)
        offset += said.consumed
        lines = list(said.lines) or lines
        if not alive and not said.consumed:
            return offset, lines
        if not said.consumed:
            time.sleep(0.02)


def test_binary_bytes(run: Run, docker: DockerRuntime, bare_image: str):
    """Every byte is kept, and offsets count what is read."""
    assert run(["printf", r"a\377\376\000b\n\033[1mend"], bare_image).succeeded
    whole = docker.logs("job.1", 0).data
    assert whole == b"a\xff\xfe\0b\n\x1b[1mend"
    assert b"".join(docker.logs("job.1", i, limit=1).data for i in range(len(whole))) == whole


def test_many_megabytes_in_one_line(docker: DockerRuntime, bare_image: str):
    """100 MB without a line's end are followed in little memory, and every byte has its offset."""
    submitted(docker, Launch(job=job_file("job.1", ["sh", "-c", f"head -c {100 * _MB} /dev/zero"]), image=bare_image))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert followed(docker, "job.1")[0] == 100 * _MB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # KiB


def test_many_lines(docker: DockerRuntime, bare_image: str):
    """Lines that are cut by slices are not read again from the beginning: a hundred thousand lines cost little CPU."""
    submitted(docker, Launch(job=job_file("job.1", ["sh", "-c", "seq 100000; echo -n end"]), image=bare_image))
    began = time.process_time()
    size, lines = followed(docker, "job.1")
    assert (size, lines[-1]) == (588_895 + 3, "end")
    assert time.process_time() - began < 2


def test_what_a_stream_said_last(run: Run, docker: DockerRuntime, bare_image: str):
    """Words on standard error right before the end are never lost."""
    for number in range(1, 6):
        run(["sh", "-c", "echo out; echo err >&2; printf last >&2"], bare_image, f"job.{number}")
        assert sorted(docker.logs(f"job.{number}", 0).data.split()) == [b"err", b"last", b"out"]


def test_streams_are_told_apart(run: Run, docker: DockerRuntime, bare_image: str):
    """Whichever part of a log is read, and after its container is gone, what is standard error is known."""
    assert run(["sh", "-c", "echo one; sleep 0.2; echo two >&2; sleep 0.2; echo three"], bare_image).succeeded
    for _ in range(2):
        assert docker.logs("job.1", 0) == LogSlice(b"one\ntwo\nthree\n", 14, ((4, 8),))
        assert docker.logs("job.1", 6, limit=4) == LogSlice(b"o\nth", 10, ((0, 2),))
        assert docker.logs("job.1", 8) == LogSlice(b"three\n", 14, ())
        docker.collect("job.1")
    assert docker.kept() == {}


def test_a_command_whose_metrics_are_read_keeps_its_streams_apart(run: Run, docker: DockerRuntime, foreign_image: str):
    """Our runner reads both streams of a command and passes each on as it is."""
    script = "echo auc=0.5; sleep 0.2; echo loss=1 >&2"
    ended = run(["sh", "-c", script], foreign_image, metrics={"auc": r"auc=(\S+)", "loss": r"loss=(\S+)"})
    assert ended.metrics == {"auc": 0.5, "loss": 1.0}
    found = docker.logs("job.1", 0)
    assert found.errors is not None
    assert b"".join(found.data[begin:end] for begin, end in found.errors) == b"loss=1\n"


def test_the_log_outlives_the_container(run: Run, docker: DockerRuntime, bare_image: str, jobs_folder: Path):
    """A collected container's log is read on from where a follower stood; then its files can go, too."""
    run(["sh", "-c", "echo one; echo two"], bare_image)
    assert list(docker.kept()) == ["job.1"]
    docker.collect("job.1")
    assert docker.kept() == {}
    assert docker.jobs() == {"job.1": False}
    assert docker.logs("job.1", 4).data == b"two\n"
    assert docker.forget(older_than_s=3600) == ()
    assert docker.forget(older_than_s=-1) == ("job.1",)
    assert (docker.jobs(), list(jobs_folder.iterdir())) == ({}, [])


def test_what_runs_is_not_collected(docker: DockerRuntime, bare_image: str, jobs_folder: Path):
    """Neither container nor files of a running job go, whoever asks."""
    script = "echo on; while [ ! -e /dla/tmp/go ]; do sleep 0.1; done"
    submitted(docker, Launch(job=job_file("job.1", ["sh", "-c", script]), image=bare_image))
    docker.collect("job.1")
    assert docker.forget(older_than_s=-1) == ()
    assert docker.status("job.1").alive
    (jobs_folder / "job.1/dla/tmp/go").touch()
    assert ended(docker, "job.1").succeeded
