"""Tests of places: what a connection may say of them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.errors import InvalidSpec, SecretExposed
from airflow_dla.specs import PlacePolicy, PlaceSpec


def docker(**more: Any) -> PlaceSpec:
    """Read a Docker place."""
    return PlaceSpec.from_mapping({"name": "gpu1", "kind": "docker", **more})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"url": "gpu1:2376"}, r"place\.url must be an engine's address such as unix:///.*known are unix, tcp"),
        ({"url": "unix://docker.sock"}, r"place\.url must be an engine's address"),
        ({"url": "ftp://gpu1"}, r"place\.url must be an engine's address"),
        ({"user": "daemon"}, r"place\.user must be 'uid:gid' in digits"),
        ({"user": "1000"}, r"place\.user must be 'uid:gid' in digits"),
        ({"folder": "jobs"}, r"place\.folder must be the absolute path of a folder"),
        ({"image": "a b"}, r"place\.image must be an image such as"),
        ({"keep": "long"}, r"place\.keep_s must be a duration such as"),
        ({"url": "tcp://gpu1:2376", "tls": {"ca": "/ca.pem"}}, r"place 'gpu1': tls names ca; give all of ca, cert, key, or none"),
        ({"tls": {"ca": "/a", "cert": "/b", "key": "/c"}}, r"tls goes with tcp:// or https://, not with 'unix:"),
        ({"tls": {"verify": "/a"}}, r"must be one of ca, cert, key"),
        ({"name": "any"}, r"place\.name must not be 'any'"),
        ({"kind": "slurm"}, r"place\.kind must be one of local, docker"),
        ({"kind": "local", "image": "x", "user": "1:1"}, r"place 'gpu1' is local and takes no image, user: say kind: docker"),
        ({"policy": {"privileged": "maybe"}}, r"place\.policy\.privileged must be true or false"),
    ],
)
def test_what_breaks_a_rule_is_named(fields: dict[str, Any], said: str) -> None:
    """The field, the value and the rule stand in the message."""
    with pytest.raises(InvalidSpec, match=said):
        docker(**fields)


@pytest.mark.parametrize("url", ["tcp://dla:s3cret@gpu1:2376", "https://s3cret@gpu1", "tcp://gpu1?token=s3cret"])
def test_an_address_with_a_password_is_refused_without_repeating_it(url: str) -> None:
    """A place is shown to whoever may see connections."""
    with pytest.raises(SecretExposed) as caught:
        docker(url=url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mounts": ["data"]}, r"policy\.mounts\[0\] must be a pattern of absolute paths"),
        ({"volumes": ["/data"]}, r"policy\.volumes\[0\] must be a pattern of volumes' names"),
        ({"users": ["root"]}, r"policy\.users\[0\] must be a pattern of 'uid:gid'"),
        ({"capabilities": ["sys_ptrace"]}, r"policy\.capabilities\[0\] must be a Linux capability"),
        ({"networks": []}, r"policy\.networks must name at least one"),
        ({"networks": ["host"]}, r"say host_network: true"),
        ({"images": "*"}, r"policy\.images must be a list"),
        ({"pids": 0}, r"policy\.pids must be > 0"),
    ],
)
def test_what_a_policy_cannot_say(fields: dict[str, Any], said: str) -> None:
    """The message names the field and the rule."""
    with pytest.raises(InvalidSpec, match=said):
        PlacePolicy.from_mapping(fields)


def test_everything_is_closed_but_images() -> None:
    """Whoever owns a place opens what its jobs need."""
    policy = docker().policy
    assert (policy.images, policy.mounts, policy.volumes, policy.users, policy.overrides) == (("*",), (), (), (), ())
    assert not policy.privileged
    assert not policy.host_network
    assert policy.read_only


@pytest.mark.parametrize(("url", "here"), [("unix:///run/docker.sock", True), ("tcp://localhost:2375", False), ("ssh://dla@gpu1", False)])
def test_a_socket_of_the_file_system_is_of_this_host(url: str, here: bool) -> None:
    """Any other address may be another host's."""
    assert docker(url=url).on_this_host is here
