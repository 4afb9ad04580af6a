"""What pods print: any bytes, much of it, kept when they are gone."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import pytest
from cluster_runtime import small
from clusters import REAL
from contracts.runtime import ended, submitted, wait_until

from airflow_dla.control.lines import read
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import Exit

pytestmark = [pytest.mark.parametrize("site", REAL, indirect=True), pytest.mark.timeout(240)]

Run = Callable[..., Exit]
Runtimes = Callable[..., KubernetesRuntime]

_MB = 10**6


def followed(pods: KubernetesRuntime, attempt: str) -> tuple[int, int]:
    """Read a log as followers do, whole lines only; return its bytes and lines."""
    offset, lines, until = 0, 0, time.monotonic() + 120
    while time.monotonic() < until:
        alive = pods.status(attempt).alive
        piece = pods.logs(attempt, offset, limit=1 << 20)
        said = read(piece.data, "n0nce", last=not alive and len(piece.data) < 1 << 20)
        offset, lines = offset + said.consumed, lines + len(said.lines)
        if not alive and not said.consumed:
            return offset, lines
        if not said.consumed:
            time.sleep(0.1)
    raise AssertionError(f"{offset} bytes after two minutes")


def test_binary_bytes(run: Run, pods: KubernetesRuntime):
    """Every byte is kept, and offsets count what is read."""
    assert run(["printf", r"a\377\376\000b\n\033[1mend"]).succeeded
    whole = pods.logs("job.1", 0).data
    assert whole == b"a\xff\xfe\0b\n\x1b[1mend"
    assert b"".join(pods.logs("job.1", i, limit=1).data for i in range(len(whole))) == whole


@pytest.mark.parametrize(("script", "size", "lines"), [
    ("seq 100000; echo -n end", 588_895 + 3, 100_001),
    (f"head -c {5 * _MB} /dev/zero", 5 * _MB, None),
    ("yes 0123456789abcdef | head -n 1000000", 17 * _MB, 1_000_000),
])  # fmt: skip
def test_much(pods: KubernetesRuntime, script: str, size: int, lines: int | None):
    """Many lines, one that has no end, and more than a node keeps in one file: all is followed, in little memory."""
    # A busy node's containerd may lose what a program wrote in its last moment.
    submitted(pods, small(["sh", "-c", f"{script}; sleep 2"], cpu=0.5), 60)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = followed(pods, "job.1")
    assert found == (size, lines or found[1])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80 * 1024  # KiB


def test_what_was_said_last(run: Run, pods: KubernetesRuntime):
    """Words right before the end are never lost."""
    for number in range(1, 4):
        run(["sh", "-c", "echo out; echo err >&2; printf last >&2"], f"job.{number}")
        assert sorted(pods.logs(f"job.{number}", 0).data.split()) == [b"err", b"last", b"out"]


def test_another_follower_reads_on(pods: KubernetesRuntime, runtimes: Runtimes):
    """Offsets mean the same to whoever comes next, in the middle of a line too."""
    submitted(pods, small(["sh", "-c", "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.05; done"]), 60)
    wait_until(lambda: len(pods.logs("job.1", 0).data) > 100)
    before = wait_until(lambda: pods.logs("job.1", 0, limit=77).data)
    other = runtimes()
    assert ended(other, "job.1", 30).succeeded
    assert before + other.logs("job.1", len(before)).data == b"".join(b"line %d\n" % number for number in range(40))


def test_kept_and_collected(run: Run, pods: KubernetesRuntime):
    """A collected Job's log is read on by who collected it; what runs is not collected."""
    run(["sh", "-c", "echo one; echo two"])
    assert list(pods.kept()) == ["job.1"]
    pods.collect("job.1")
    wait_until(lambda: "job.1" not in pods.kept(), 30)
    assert pods.logs("job.1", 4).data == b"two\n"
    submitted(pods, small(["sleep", "3"], "job.2"), 60)
    pods.collect("job.2")
    assert pods.status("job.2").alive
    assert ended(pods, "job.2", 30).succeeded
