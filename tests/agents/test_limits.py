"""Limits: control groups of both versions in a made-up tree, and what is said where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_dla.agents import limits

AMOUNTS = {"cpu": 1.5, "memory": 0.5}


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """Return a version 2 group that hands down CPU and memory."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (own / "cgroup.subtree_control").write_text("")
    return own


def test_own_groups_with_mixed_hierarchies():
    """Version 1 controllers beside a unified hierarchy are found one by one, also through a container's root."""
    cgroups = "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc/sub\n0::/u"
    mounts = """
        30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
        31 25 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
        32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
        33 25 0:29 / / rw - ext4 /dev/vda rw
    """.strip()
    found = limits.own_groups(cgroups, mounts)
    assert found["cpu"] == Path("/sys/fs/cgroup/cpu,cpuacct/docker/abc")
    assert found["memory"] == Path("/sys/fs/cgroup/memory/sub")
    assert found["unified"] == Path("/sys/fs/cgroup/unified/u")


def test_version_2(unified: Path):
    """Where cpu and memory are among the controllers, one group holds both limits and no swap."""
    found = limits.set_limits("dla-x-job.1", AMOUNTS, (), {"unified": unified})
    folder = unified / "dla-x-job.1"
    assert found.text == "cgroup v2: 1.5 cpu, 512 MiB"
    assert (folder / "cpu.max").read_text() == "150000 100000"
    assert (folder / "memory.max").read_text() == str(2**29)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (unified / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert found.memory_bytes is None


@pytest.mark.parametrize("controllers", ["hugetlb", "cpu pids", ""])
def test_unified_without_both_is_passed_over(unified: Path, controllers: str):
    """A unified hierarchy without cpu and memory is left alone; the memory is watched instead."""
    (unified / "cgroup.controllers").write_text(controllers)
    found = limits.set_limits("dla-x-job.1", AMOUNTS, (), {"unified": unified})
    assert found.folders == ()
    assert found.memory_bytes == 2**29
    assert found.text == "no cgroup may be made here; cpu by the number of threads only; memory of 512 MiB watched"


def test_unified_that_refuses_a_limit(unified: Path):
    """Where the kernel takes the group but not a limit, the memory is watched instead."""
    (unified / "dla-x-job.1" / "memory.max").mkdir(parents=True)
    assert limits.set_limits("dla-x-job.1", AMOUNTS, (), {"unified": unified}).memory_bytes == 2**29


def test_version_1_controller_by_controller(tmp_path: Path):
    """Each controller counts by itself: memory in a group, CPUs by number."""
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "dla-x-job.1").mkdir()
    (tmp_path / "memory" / "dla-x-job.1" / "memory.limit_in_bytes").touch()
    one = min(os.sched_getaffinity(0))
    found = limits.set_limits("dla-x-job.1", AMOUNTS, (one, 4096), {"memory": tmp_path / "memory"})
    assert found.text == f"cgroup v1: 512 MiB; CPUs {one} by affinity"
    assert found.cpu_ids == (one,)
    assert found.memory_bytes is None
    assert (tmp_path / "memory" / "dla-x-job.1" / "memory.limit_in_bytes").read_text() == str(2**29)


def test_nothing_asked_for():
    """A grant without CPU and memory has no limits, and says so."""
    assert limits.set_limits("dla-x-job.1", {"gpu": 1.0}, (), {}).text == "no limit asked for"


def test_memory_and_kills_are_read_in_both_versions(tmp_path: Path):
    """Anonymous and shared memory counts, the page cache does not."""
    two, one = tmp_path / "two", tmp_path / "one"
    two.mkdir()
    one.mkdir()
    (two / "memory.stat").write_text("anon 100\nfile 5000\n")
    (two / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (one / "memory.stat").write_text("cache 5000\nrss 1\ntotal_cache 5000\ntotal_rss 70\n")
    (one / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert (limits.memory_held([str(two)]), limits.memory_held([str(one)])) == (100, 70)
    assert limits.oom_kills([str(two), str(one), str(tmp_path / "gone")]) == 3


def test_leftovers_are_those_of_this_root(tmp_path: Path):
    """Groups of other attempts of the same root are found; those of other roots are not ours."""
    own = limits.group_name(Path("/jobs/job.1"))
    for name in (own, limits.group_name(Path("/jobs/job.2")), limits.group_name(Path("/elsewhere/job.3"))):
        (tmp_path / name).mkdir()
    assert list(limits.leftovers(own, {"cpu": tmp_path, "memory": tmp_path})) == ["job.2"]
