"""What a container uses, by its control group in both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_dla.agents.usage import Usage, container_groups, cpu_seconds, own_groups

ID = "0123456789abcdef" * 4


def group(folder: Path, **files: str) -> Path:
    """Make a control group with files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_version_1(tmp_path: Path):
    """Each controller has a tree of its own; the page cache does not count."""
    memory = group(tmp_path / "memory" / "nested" / "docker" / ID, memory__stat="cache 99\ntotal_rss 1073741824\n")
    cpu = group(tmp_path / "cpuacct" / "docker" / ID, cpuacct__usage="1500000000\n")
    assert container_groups(ID, tmp_path) == {"memory": memory, "cpu": cpu}
    usage = Usage(lambda: container_groups(ID, tmp_path))
    usage.look()
    assert usage.peaks == {"memory": 1.0, "cpu_s": 1.5}
    group(memory / "inner", cgroup__procs="8\n")
    group(memory, cgroup__procs="7\n9\n")
    assert usage.members() == {7, 8, 9}


def test_version_2(tmp_path: Path):
    """One tree, a scope of systemd's; the most is remembered when less is held later."""
    scope = tmp_path / "system.slice" / f"docker-{ID}.scope"
    group(scope, memory__stat="anon 2147483648\nfile 5\n", cpu__stat="usage_usec 250000\nuser_usec 1\n")
    now = [0.0]
    usage = Usage(lambda: container_groups(ID, tmp_path), clock=lambda: now[0])
    usage.look()
    group(scope, memory__stat="anon 1\n", cpu__stat="usage_usec 500000\n")
    usage.look()
    assert usage.peaks == {"memory": 2.0, "cpu_s": 0.25}
    now[0] = 1.0
    usage.look()
    assert usage.peaks == {"memory": 2.0, "cpu_s": 0.5}


def test_elsewhere_or_gone(tmp_path: Path):
    """No container yet, one of another host, and one whose group has gone: no peaks, ever fewer searches."""
    asked: list[float] = []
    now = [0.0]
    usage = Usage(lambda: asked.append(now[0]) or container_groups(ID, tmp_path), clock=lambda: now[0])
    for tenth in range(600):
        now[0] = tenth / 10
        usage.look()
    assert usage.peaks == {}
    assert 5 <= len(asked) <= 8
    assert cpu_seconds(tmp_path / "gone") == 0.0


def test_not_yet(tmp_path: Path):
    """While there is no container it is looked for as often as ever."""
    now, asked = [0.0], []
    usage = Usage(lambda: asked.append(now[0]), clock=lambda: now[0])
    for tenth in range(100):
        now[0] = tenth / 10
        usage.look()
    assert usage.peaks == {}
    assert len(asked) >= 45


@pytest.mark.parametrize("version", [1, 2])
def test_inside(tmp_path: Path, version: int):
    """A container sees its own groups as if they were the topmost."""
    memory, cpu = (tmp_path / "memory", tmp_path / "cpuacct") if version == 1 else (tmp_path, tmp_path)
    group(memory, memory__stat="total_rss 1073741824\n" if version == 1 else "anon 1073741824\n")
    group(cpu, **({"cpuacct__usage": "1500000000\n"} if version == 1 else {"cpu__stat": "usage_usec 1500000\n"}))
    usage = Usage(lambda: own_groups(tmp_path))
    usage.look()
    assert usage.peaks == {"memory": 1.0, "cpu_s": 1.5}
