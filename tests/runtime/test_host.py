"""The machine we are on, as a node: real CPUs and memory, limits of control groups respected."""

from __future__ import annotations

import os
from pathlib import Path

from airflow_dla.runtime import host
from airflow_dla.runtime.host import cpus, discover, host_id, memory_bytes

GIB = 2**30


def test_discover():
    """CPUs are those of the affinity mask at most, memory is that of the machine at most."""
    node = discover("laptop")
    assert (node.name, node.place) == ("laptop", "local")
    assert node.cpu_ids == tuple(sorted(os.sched_getaffinity(0)))
    assert 0 < node.capacity["cpu"] <= len(node.cpu_ids)
    assert 0 < node.capacity["memory"] <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB


def test_host_id_is_the_same_in_every_process():
    """The id has no part that differs between two processes of one host."""
    assert host_id() == host_id()
    assert len(host_id().split("/")) == 3


def group(tmp_path: Path, name: str, **files: str) -> Path:
    """Return a control group with some files."""
    folder = tmp_path / name
    folder.mkdir()
    for file, text in files.items():
        (folder / file.replace("__", ".")).write_text(text)
    return folder


def test_limits_of_both_versions(tmp_path: Path):
    """The smallest limit anywhere above counts; 'max' and -1 are none."""
    two = group(tmp_path, "two", cpu__max="150000 100000\n", memory__max=f"{GIB}\n")
    free = group(tmp_path, "free", cpu__max="max 100000\n", memory__max="max\n")
    one = group(tmp_path, "one", cpu__cfs_quota_us="50000\n", cpu__cfs_period_us="100000\n", memory__limit_in_bytes=f"{GIB // 2}\n")
    open_ = group(tmp_path, "open", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    assert cpus(4, []) == 4.0
    assert cpus(4, [two, free]) == 1.5
    assert cpus(4, [one, open_]) == 0.5
    assert cpus(1, [two]) == 1.0
    assert memory_bytes(4 * GIB, [free]) == 4 * GIB
    assert memory_bytes(4 * GIB, [two, one, free]) == GIB // 2


def test_every_group_above_is_looked_at():
    """A group's limit binds all below it, so each one up to the root is looked at, in every hierarchy."""
    cgroups = "4:memory:/a/b\n0::/c"
    mounts = "31 25 0:27 / /m rw - cgroup cgroup rw,memory\n32 25 0:28 / /u rw - cgroup2 cgroup2 rw\n33 1 0:1 / / rw - ext4 /dev/vda rw"
    assert [str(path) for path in host._groups(cgroups, mounts)] == ["/m/a/b", "/m/a", "/m", "/u/c", "/u"]
