"""The request for a container, made of a real engine: every field is taken, and holds inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import wait_until

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime.command import argv
from airflow_dla.runtime.docker.body import body, update
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.policy import refuse
from airflow_dla.runtime.starting import why_not_started
from airflow_dla.specs import Grant

pytestmark = pytest.mark.docker

Make = Callable[..., Any]
MIB = 2**20


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return an attempt's folder, that any user may write into and an engine of this host can mount."""
    for name in ("code", "out", "tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    return tmp_path


@pytest.fixture
def allowed(launch: Make, job: Make, place: Make, base_image: str) -> Make:
    """Return a function that makes a launch of the base image and a place whose policy lets it through."""

    def allowed_(command: list[str], policy: dict[str, Any] | None, granted: dict[str, float] | None, **fields: Any) -> Any:
        asked, where = launch(job=job(command, granted), image=base_image, **fields), place(policy)
        refuse(asked, where)
        return asked, where

    return allowed_


@pytest.fixture
def run(engine: Engine, make: Make, allowed: Make, files: Path, workspace: str) -> Make:
    """Return a function that starts what a body describes; it is removed at the end."""

    def run_(script: str | list[str], policy: dict[str, Any] | None = None, amounts: dict[str, float] | None = None, **fields: Any) -> str:
        asked, where = allowed(["sh", "-c", script] if isinstance(script, str) else script, policy, amounts, **fields)
        image = engine.image(asked.image)
        assert image is not None
        made = body(
            asked, where, workspace=workspace, image=image, facts=engine.facts(), argv=argv(asked.job, None, runner=False),
            mounts=[{"Type": "bind", "Source": str(files), "Target": "/dla"}], user="1234:1234", stdin=False,
        )  # fmt: skip
        container: str = make("", **made)
        engine.start(container)
        return container

    return run_


def log(engine: Engine, container: str) -> list[str]:
    """Wait for a container's end; return the lines of its log."""
    wait_until(lambda: (found := engine.inspect(container)) and found["State"]["Status"] == "exited")
    return engine.tail(container, 65_536).decode().splitlines()


def test_limits_inside(engine: Engine, run: Make):
    """Who it runs as, what it may write, and the limits of its grant are those of the request."""
    script = (
        "id -u; pwd; echo $TMPDIR; touch /x 2>/dev/null || echo read-only; touch /tmp/x $DLA_OUT/x; ulimit -c;"
        "grep CapEff /proc/self/status; df -k /dev/shm | tail -1; ls /sys/class/net"
    )
    found = log(engine, run(script, amounts={"cpu": 1.0, "memory": 0.5, "shm": 0.25}, overrides={"network": "none"}))
    assert found[:5] == ["1234", "/dla/code", "/dla/tmp", "read-only", "0"]
    assert found[5].split()[1] == "0" * 16
    assert found[6].split()[1] == str(256 * 1024)
    assert found[7:] == ["lo"]


def test_all_that_can_be_opened(engine: Engine, run: Make):
    """Every setting that a policy can open is taken by an engine."""
    overrides = {
        "user": "0:0", "cap_add": ["chown"], "dns": ["10.0.0.1"], "dns_search": ["lab"], "dns_options": ["ndots:1"], "hostname": "train",
        "extra_hosts": {"registry": "10.0.0.2"}, "group_add": ["44"], "init": False, "ipc_mode": "shareable", "oom_score_adj": 100,
        "runtime": "runc", "security_opt": ["seccomp=unconfined"], "stop_signal": "SIGINT", "sysctls": {"net.core.somaxconn": "512"},
        "tmpfs": {"/run": "size=1m"}, "ulimits": {"nofile": [256, 512]},
    }  # fmt: skip
    opened = {"users": ["0:0"], "capabilities": ["CHOWN"], "overrides": list(overrides)}
    found = log(engine, run("id -u; hostname; ulimit -n; cat /proc/sys/net/core/somaxconn", opened, overrides=overrides))
    assert found == ["0", "train", "256", "512"]


def test_update(engine: Engine, run: Make):
    """A grant is put in force whichever way it changes, memory and swap together."""
    container = run("sleep 60")
    for cpu, memory in ((1.0, 1.0), (0.5, 0.25)):
        assert engine.update(container, update(Grant(id="a.1", node="n", amounts={"cpu": cpu, "memory": memory}), engine.facts())) is None
        found = engine.inspect(container)
        assert found is not None
        host = found["HostConfig"]
        assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (cpu * 1e9, memory * 1024 * MIB, memory * 1024 * MIB)


@pytest.mark.parametrize(("program", "told"), [("nope", "command not found: 'nope'"), ("/etc/passwd", "may not be executed")])
def test_what_an_engine_says_of_a_program(run: Make, program: str, told: str):
    """The words of a real engine are understood."""
    with pytest.raises(LaunchRefused) as refused:
        run([program], {"overrides": ["init"]}, overrides={"init": False})
    assert told in why_not_started(str(refused.value), program)[1]
