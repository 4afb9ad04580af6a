"""Settings of the engine that a job asks for."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.docker.overrides import SETTINGS, asked

ONE_OF_EACH: dict[str, tuple[Any, Any]] = {
    "cap_add": (["CAP_sys_ptrace"], ["SYS_PTRACE"]),
    "devices": (["/dev/fuse"], [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"}]),
    "dns": (["10.0.0.1"], ["10.0.0.1"]),
    "dns_options": (["ndots:1"], ["ndots:1"]),
    "dns_search": (["lab"], ["lab"]),
    "extra_hosts": ({"registry": "10.0.0.1"}, ["registry:10.0.0.1"]),
    "group_add": (["44"], ["44"]),
    "hostname": ("train", "train"),
    "init": ("false", False),
    "ipc_mode": ("host", "host"),
    "network": ("none", "none"),
    "network_mode": ("none", "none"),
    "oom_score_adj": ("500", 500),
    "pid_mode": ("host", "host"),
    "privileged": ("true", True),
    "runtime": ("nvidia", "nvidia"),
    "security_opt": (["seccomp=unconfined"], ["seccomp=unconfined"]),
    "stop_signal": ("SIGINT", "SIGINT"),
    "sysctls": ({"net.core.somaxconn": "1024"}, {"net.core.somaxconn": "1024"}),
    "tmpfs": ({"/run": ""}, {"/run": ""}),
    "ulimits": ({"nofile": [512, "1024"]}, [{"Name": "nofile", "Soft": 512, "Hard": 1024}]),
    "user": ("1000:1000", "1000:1000"),
}


def test_every_setting_is_tried():
    """Each setting that is known has an example here."""
    assert ONE_OF_EACH.keys() == SETTINGS.keys()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_setting(name: str):
    """Each is read, also as Jinja leaves it, and stands under the engine's own name."""
    given, expected = ONE_OF_EACH[name]
    assert asked({name: given}) == {SETTINGS[name][0]: expected}


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"mem_limit": "1g"}, "what is granted"),
        ({"labels": {}}, "never open"),
        ({"network": "none", "network_mode": "none"}, "are the same"),
        ({"privileged": "yes"}, "true or false"),
        ({"ulimits": {"nofile": [1]}}, r"\[soft, hard\]"),
        ({"devices": "/dev/fuse"}, "must be a list"),
    ],
)
def test_refused(overrides: dict[str, Any], told: str):
    """What is never open, unknown or not readable is refused with what to write instead."""
    with pytest.raises(InvalidSpec, match=told):
        asked(overrides)
