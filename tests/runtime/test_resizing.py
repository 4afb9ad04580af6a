"""Resizing real processes: what holds is measured from inside the job, before and after."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import ended, wait_until

from airflow_dla.runtime import Launch
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.specs import ExitReason, Grant

Make = Callable[..., Launch]

#: Says what it may use whenever that changes, from a thread too, and holds as many MiB as it is told to.
WATCHER = """
    import json, os, threading, time

    def limit(name):
        for line in open("/proc/self/cgroup"):
            _, kinds, path = line.strip().split(":", 2)
            if name.partition(".")[0] in kinds.split(","):
                for top in (path, "/" + path.rpartition("/")[2]):
                    try:
                        return int(open(f"/sys/fs/cgroup/{kinds}{top}/{name}").read())
                    except OSError:
                        continue
        return None

    def main(job):
        found = {}
        def look():
            while True:
                found["thread"] = sorted(os.sched_getaffinity(0))
                time.sleep(0.005)
        threading.Thread(target=look, daemon=True).start()
        held = bytearray(int(job.args.get("mib", 0)) * 2**20)
        held[::4096] = b"1" * len(held[::4096])
        last = None
        while not job.stopping:
            seen = {
                "cpus": sorted(os.sched_getaffinity(0)), "thread": found.get("thread"), "quota": limit("cpu.cfs_quota_us"),
                "memory": limit("memory.limit_in_bytes"), "grant": job.grant, "threads": job.threads,
            }
            if seen != last:
                last = seen
                print("SEEN", json.dumps(seen), flush=True)
            time.sleep(0.01)
"""


class Running:
    """A job that says what it may use."""

    def __init__(self, local: LocalRuntime, launch: Launch) -> None:
        self.local = local
        local.submit(launch)
        wait_until(lambda: self.seen() and self.seen()["thread"])

    def seen(self) -> dict[str, Any]:
        """Return what it said last."""
        whole = self.local.logs("job.1", 0).data.decode().rpartition("\n")[0]  # the last line may still be written
        lines = [line for line in whole.splitlines() if line.startswith("SEEN")]
        return dict(json.loads(lines[-1].removeprefix("SEEN "))) if lines else {}

    def sees(self, **expected: Any) -> bool:
        """Wait until it says so."""
        return bool(wait_until(lambda: expected.items() <= self.seen().items(), 5))


@pytest.fixture
def run(local: LocalRuntime, launch: Make) -> Iterator[Callable[..., Running]]:
    """Return a function that starts the job with a grant; it is stopped at the end."""
    yield lambda grant, **fields: Running(local, launch(WATCHER, grant=grant, **fields))
    local.cancel("job.1", ExitReason.STOPPED)
    ended(local, "job.1")


@pytest.fixture
def watched(tmp_path: Path, launch: Make) -> Iterator[Callable[..., Running]]:
    """Return the same where no control group may be made."""
    local = LocalRuntime(tmp_path / "watched", node="laptop", cgroups=False)
    yield lambda grant, **fields: Running(local, launch(WATCHER, grant=grant, **fields))
    local.cancel("job.1", ExitReason.STOPPED)
    ended(local, "job.1")


def grant(*ids: int, gpu_ids: tuple[str, ...] = (), **amounts: float) -> Grant:
    """Return a grant of some amounts and CPUs."""
    return Grant(id="job.1", node="laptop", amounts=amounts, cpu_ids=ids, gpu_ids=gpu_ids)


needs_two_cpus = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this machine has one CPU")


@pytest.fixture
def cpus() -> tuple[int, ...]:
    """Return two CPUs of this machine."""
    return tuple(sorted(os.sched_getaffinity(0)))[:2]


def in_groups(running: Running) -> bool:
    """Whether control groups guard CPU and memory here."""
    controls = json.loads((running.local.root / "job.1" / "cgroups.json").read_text())["controls"]
    return set(controls) == {"cpu", "memory"}


@needs_two_cpus
def test_shrink_and_growth_are_seen_from_inside(run: Callable[..., Running], cpus: tuple[int, ...]) -> None:
    """Quota, memory limit, affinity of every thread and job.grant follow the grant, down and up again."""
    running = run(grant(*cpus, cpu=2.0, memory=0.5))
    if not in_groups(running):
        pytest.skip("no control group may be made here")
    first = running.seen()
    assert first["cpus"] == first["thread"] == list(cpus)
    for ids, cpu, memory in ((cpus[:1], 1.0, 0.25), (cpus, 2.0, 0.75), (cpus[1:], 0.5, 0.5)):
        assert running.local.resize("job.1", grant(*ids, cpu=cpu, memory=memory))
        assert running.sees(
            cpus=list(ids), thread=list(ids), quota=int(cpu * 100_000), memory=int(memory * 2**30),
            grant={"cpu": cpu, "memory": memory}, threads=2 if cpu == 2.0 else 1,
        )  # fmt: skip


@needs_two_cpus
def test_without_groups_affinity_and_the_watched_limit_change(watched: Callable[..., Running], cpus: tuple[int, ...]) -> None:
    """Where no control group may be made, CPUs change by affinity, and the keeper's watch by the new limit."""
    running = watched(grant(*cpus, cpu=2.0, memory=1.0), args={"mib": 200})
    assert running.local.resize("job.1", grant(cpus[0], cpu=1.0, memory=0.5))
    assert running.sees(cpus=[cpus[0]], thread=[cpus[0]])
    assert not running.local.resize("job.1", grant(cpus[0], cpu=1.0, memory=0.125))
    assert not running.local.resize("job.1", grant(cpu=1.0, memory=0.5, gpu=1.0))
    assert running.local.status("job.1").alive
    assert running.sees(cpus=[cpus[0]], grant={"cpu": 1.0, "memory": 0.5})


HOG = """
    import os, time
    def main(job):
        held = bytearray(100 * 2**20)
        held[::4096] = b"1" * len(held[::4096])
        print("ready", flush=True)
        while not os.path.exists(job.args["go"]):
            time.sleep(0.01)
        more = bytearray(300 * 2**20)
        more[::4096] = b"1" * len(more[::4096])
        time.sleep(60)
"""


@pytest.mark.parametrize("cgroups", [True, False])
def test_the_smaller_limit_is_enforced(tmp_path: Path, launch: Make, cgroups: bool) -> None:
    """After a shrink the job that takes more than it has now ends as out of memory, and is told the limit of now."""
    local = LocalRuntime(tmp_path / "jobs", node="laptop", cgroups=cgroups)
    local.submit(launch(HOG, grant=grant(memory=1.0), args={"go": str(tmp_path / "go")}))
    wait_until(lambda: b"ready" in local.logs("job.1", 0).data)
    assert local.resize("job.1", grant(memory=0.25))
    (tmp_path / "go").touch()
    found = ended(local, "job.1")
    assert found.reason is ExitReason.OUT_OF_MEMORY
    assert "under a limit of 0.25 GiB" in found.message


def test_memory_in_use_is_not_taken(run: Callable[..., Running]) -> None:
    """A limit below what is held, or too close above it, is refused as a whole: the CPU stays what it was."""
    running = run(grant(cpu=2.0, memory=1.0), args={"mib": 300})
    for memory in (0.125, 0.3):
        assert not running.local.resize("job.1", grant(cpu=1.0, memory=memory))
    assert running.seen()["grant"] == {"cpu": 2.0, "memory": 1.0}
    assert running.seen()["quota"] in {200_000, None}
    assert running.local.status("job.1").alive
    assert running.local.resize("job.1", grant(cpu=1.0, memory=0.5))


def test_what_cannot_change_is_refused(run: Callable[..., Running]) -> None:
    """GPUs, what nobody enforces, a limit that goes away and another node are refused; nothing changes."""
    running = run(grant(cpu=1.0, memory=0.5, disk=1.0))
    now = {"cpu": 1.0, "memory": 0.5, "disk": 1.0}
    impossible = [
        grant(gpu_ids=("0",), **now), grant(**{**now, "disk": 0.5}), grant(cpu=1.0, disk=1.0), grant(**{**now, "cpu": 0.0}),
    ]  # fmt: skip
    elsewhere = Grant(id="job.1", node="other", amounts={"cpu": 1.0})
    assert not any(running.local.resize("job.1", target) for target in [*impossible, elsewhere])
    assert running.seen()["grant"] == now
    assert running.local.resize("job.1", grant(**{**now, "cpu": 1.5}))


def test_a_resize_broken_off_is_undone_or_done(run: Callable[..., Running]) -> None:
    """What a follower that died left half done is put back when the rest is refused, and completed when it is repeated."""
    running = run(grant(cpu=2.0, memory=1.0), args={"mib": 300})
    if not in_groups(running):
        pytest.skip("no control group may be made here")
    controls = json.loads((running.local.root / "job.1" / "cgroups.json").read_text())["controls"]
    Path(controls["cpu"][0]).write_text("100000")
    assert not running.local.resize("job.1", grant(cpu=1.0, memory=0.125))
    assert running.sees(quota=200_000)
    Path(controls["cpu"][0]).write_text("100000")
    assert running.local.resize("job.1", grant(cpu=1.0, memory=0.5))
    assert running.sees(quota=100_000, memory=2**29)


def test_two_followers_at_once(run: Callable[..., Running]) -> None:
    """Two that resize to different grants at once leave one of them in force, whole."""
    running = run(grant(cpu=2.0, memory=1.0))
    targets = [grant(cpu=1.0, memory=0.5), grant(cpu=1.5, memory=0.75)]
    threads = [threading.Thread(target=lambda t=target: [running.local.resize("job.1", t) for _ in range(20)]) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = json.loads((running.local.root / "job.1" / "grant.json").read_text())["amounts"]
    assert said in [dict(target.amounts) for target in targets]
    assert running.sees(
        grant=said, **({"quota": int(said["cpu"] * 100_000), "memory": int(said["memory"] * 2**30)} if in_groups(running) else {})
    )
