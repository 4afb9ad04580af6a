"""What an engine's place refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.overrides import SETTINGS
from airflow_dla.runtime.docker.policy import refuse
from airflow_dla.specs import JobFile, PlaceSpec
from airflow_dla.specs.grants import Grant

Make = Callable[..., Any]


def test_nothing_asked_for(launch: Make, place: Make):
    """A job that asks for nothing but an image runs on a place that says nothing."""
    refuse(launch(), place())


def test_images(launch: Make, place: Make):
    """As everywhere."""
    with pytest.raises(LaunchRefused, match=r"'evil.io/x' is not allowed on place 'gpu1'"):
        refuse(launch(image="evil.io/x"), place({"images": ["python:*"]}))


@pytest.mark.parametrize("source", ["/jobs", "/jobs/x.1", "/run/docker.sock", "/etc:ro"])
def test_host_folders(launch: Make, place: Make, source: str):
    """A host folder that hands over the host, or another job's files, is allowed word for word alone."""
    with pytest.raises(LaunchRefused, match="word for word"):
        refuse(launch(volumes={"/data": source}), place({"mounts": ["*:rw"]}, folder="/jobs"))


def test_link_to_elsewhere(launch: Make, place: Make):
    """A link is judged by where it leads, too."""
    where, asked = place({"mounts": ["/srv/*"]}), launch(volumes={"/data": "/srv/link:ro"})
    refuse(asked, where, resolve=lambda path: "/srv/data")
    with pytest.raises(LaunchRefused, match=r"'/srv/link' \(it leads to /etc\)"):
        refuse(asked, where, resolve=lambda path: "/etc")


def test_protected(launch: Make, place: Make):
    """Folders of other jobs are nobody's, whatever the policy's patterns."""
    with pytest.raises(LaunchRefused, match="word for word"):
        refuse(launch(volumes={"/data": "/srv/jobs/other.1:ro"}), place({"mounts": ["/srv/*"]}), protected=["/srv/jobs"])


def test_named_volumes(launch: Make, place: Make):
    """A named volume needs a pattern of its own."""
    asked = launch(volumes={"/cache": "hf-cache"})
    refuse(asked, place({"volumes": ["hf-*"]}))
    with pytest.raises(LaunchRefused, match=r"'hf-cache' for /cache is not allowed on place 'gpu1', which allows other.*policy.volumes"):
        refuse(asked, place({"volumes": ["other"], "mounts": ["*"]}))


@pytest.mark.parametrize(
    ("overrides", "policy", "told"),
    [
        ({"privileged": True}, {"privileged": True}, "policy.privileged"),
        ({"network": "host"}, {"host_network": True}, "policy.host_network"),
        ({"network_mode": "lab"}, {"networks": ["bridge", "lab"]}, "policy.networks"),
        ({"user": "1000:1000"}, {"users": ["1000:*"]}, "policy.users"),
        ({"user": "0:0"}, {"users": ["0:0"]}, "policy.users"),
        ({"cap_add": ["sys_ptrace"]}, {"capabilities": ["CAP_SYS_PTRACE"]}, "policy.capabilities"),
        ({"devices": ["/dev/fuse"]}, {"overrides": ["devices"]}, "policy.overrides"),
        ({"pid_mode": "host"}, {"overrides": ["pid_mode"]}, "policy.overrides"),
        ({"dns": ["10.0.0.1"]}, {"overrides": ["dns"]}, "policy.overrides"),
    ],
)
def test_settings(launch: Make, place: Make, overrides: dict[str, Any], policy: dict[str, Any], told: str):
    """Each setting is closed until the policy opens it, and the message says where."""
    refuse(launch(overrides=overrides), place(policy))
    with pytest.raises(LaunchRefused, match=rf"place 'gpu1'.*{told}"):
        refuse(launch(overrides=overrides), place())


@pytest.mark.parametrize("name", ["cap_add", "network", "privileged", "user"])
def test_settings_with_a_rule_are_not_opened_by_name(launch: Make, place: Make, name: str):
    """What has a rule of its own is not opened by being listed among the others."""
    value = {"cap_add": ["ALL"], "network": "host", "privileged": True, "user": "0:0"}[name]
    with pytest.raises(LaunchRefused):
        refuse(launch(overrides={name: value}), place({"overrides": [name]}))


def test_own_user_and_closed_settings_that_change_nothing(launch: Make, place: Make):
    """Asking for what the place gives anyway is allowed."""
    refuse(launch(overrides={"user": "7:7", "privileged": False, "network": "bridge", "cap_add": []}), place(user="7:7"))


def test_what_cannot_be_read_names_the_place(launch: Make, place: Make):
    """Also a mistake in writing is a refusal of the launch."""
    with pytest.raises(LaunchRefused, match=r"relative path.*\(place 'gpu1'\)"):
        refuse(launch(volumes={"/data": "./x"}), place())


GRANT = Grant(id="a.1", node="gpu1")
JOB = JobFile.from_mapping(
    {"attempt": "a.1", "nonce": "n", "entrypoint": ["true"], "grant": GRANT.to_mapping(), "store": "file:///x", "checkpoint": "a"}
)
VALUES = st.one_of(
    st.booleans(),
    st.sampled_from(["host", "0:0", "container:x", "SIGKILL", "nvidia"]),
    st.lists(st.sampled_from(["ALL", "/dev/sda", "seccomp=unconfined"]), min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["nofile", "/run"]), st.integers(0, 9), min_size=1, max_size=2),
)


@given(st.dictionaries(st.sampled_from(sorted(SETTINGS)), VALUES, min_size=1, max_size=3))
def test_a_closed_place_gives_nothing(overrides: dict[str, Any]):
    """Whatever a job asks of a place that opens nothing is refused, unless it is to have no privileges."""
    closed = PlaceSpec(name="gpu1", kind="docker")
    try:
        refuse(Launch(job=JOB, image="x", overrides=overrides), closed)
    except LaunchRefused:
        return
    assert overrides == {"privileged": False}
