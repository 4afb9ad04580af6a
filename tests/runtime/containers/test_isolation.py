"""What a container may not: seen from inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import Exit

Run = Callable[..., Exit]

_LOOK = """
import json, os, socket
def can(call):
    try:
        call()
        return True
    except OSError:
        return False
def write(path):
    return can(lambda: open(path, "w").close())
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({
    "uid": os.getuid(), "capabilities": int(status["CapEff"], 16), "no_new_privileges": int(status["NoNewPrivs"]),
    "root": write("/x"), "usr": write("/usr/x"), "tmp": write("/tmp/x"), "code": write("/dla/code/x"), "scratch": write("/dla/tmp/x"),
    "runner": write("/opt/dla/agents/x"), "out": write("/dla/out/x"),
    "links": sorted(os.listdir("/sys/class/net")), "control": os.path.exists("/dla/../ended.json"),
}))
"""


def test_seen_from_inside(run: Run, docker: DockerRuntime, base_image: str):
    """Not root, no capability, no way to more, its own folders and nothing else to write, no network where the place has none."""
    docker.place = replace(docker.place, policy=replace(docker.place.policy, networks=("none",)))
    assert run(["python3", "-c", _LOOK], base_image).succeeded
    assert json.loads(docker.logs("job.1", 0).data) == {
        "uid": 65532, "capabilities": 0, "no_new_privileges": 1,
        "root": False, "usr": False, "tmp": True, "code": True, "scratch": True, "runner": False, "out": True,
        "links": ["lo"], "control": False,
    }  # fmt: skip


def test_without_python(run: Run, docker: DockerRuntime, bare_image: str):
    """An image of a few programs runs under the same rules."""
    assert run(["sh", "-c", "! touch /x 2> /dev/null && id -u"], bare_image).succeeded
    assert docker.logs("job.1", 0).data == b"65532\n"
