"""What a place refuses, and what it says then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.kubernetes.test_template import EVERYTHING

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime.kubernetes.overrides import SETTINGS
from airflow_dla.runtime.kubernetes.policy import refuse

Make = Callable[..., Any]
OPEN = {
    "overrides": list(SETTINGS), "privileged": True, "host_network": True, "users": ["0:0"], "capabilities": ["SYS_PTRACE"],
    "service_accounts": ["tr*"], "priority_classes": ["high"], "pull_secrets": ["*"],
}  # fmt: skip


def test_what_nobody_asked_for_is_not_refused(launch: Make, place: Make):
    """A plain job runs on a place that opens nothing."""
    refuse(launch(), place())


def test_an_open_place_gives_everything(launch: Make, place: Make):
    """Its owner said so."""
    refuse(launch(overrides=EVERYTHING), place(OPEN))


@given(name=st.sampled_from(sorted(EVERYTHING)))
def test_a_closed_place_gives_nothing(name: str, launch: Make, place: Make):
    """Whatever is asked for, the message names it, the place and who can open it."""
    with pytest.raises(LaunchRefused, match=r"overrides: .*place 'k8s'.*ask the place's owner to") as caught:
        refuse(launch(overrides={name: EVERYTHING[name]}), place())
    assert name in str(caught.value)


def test_a_places_own_may_be_named(launch: Make, place: Make):
    """What a job gets anyway it may ask for."""
    where = place(service_account="train", priority_class="low", user="7:7", image_pull_secrets=["registry"])
    own = {"service_account": "train", "priority_class": "low", "user": "7:7", "image_pull_secrets": ["registry"]}
    refuse(launch(overrides=own), where)


@pytest.mark.parametrize(
    ("overrides", "policy", "said"),
    [
        ({"service_account": "root"}, {"service_accounts": ["tr*"]}, r"service_account 'root' is not allowed.*which allows tr\* besides"),
        ({"image_pull_secrets": ["a", "b"]}, {"pull_secrets": ["a"]}, r"image_pull_secrets 'b' is not allowed.*policy\.pull_secrets"),
        ({"cap_add": ["SYS_ADMIN"]}, {"capabilities": ["SYS_PTRACE"]}, r"cap_add asks for SYS_ADMIN.*it keeps SYS_PTRACE"),
        ({"privileged": True}, {"overrides": ["privileged"]}, r"privileged=True is not allowed.*policy\.privileged"),
        (
            {"sidecars": [{"name": "p", "image": "evil/p"}]}, {"overrides": ["sidecars"], "images": ["python:*"]},
            r"image 'evil/p' of sidecar 'p' is not allowed on place 'k8s', which allows python:\*",
        ),
        ({"env": {}}, {}, r"'env' is never open.*\(place 'k8s'\)"),
    ],
)  # fmt: skip
def test_what_a_rule_refuses(overrides: dict[str, Any], policy: dict[str, Any], said: str, launch: Make, place: Make):
    """The message names the value and the rule."""
    with pytest.raises(LaunchRefused, match=said):
        refuse(launch(overrides=overrides), place(policy))


def test_privileges_that_are_declined_are_no_privileges(launch: Make, place: Make):
    """False asks for nothing."""
    refuse(launch(overrides={"privileged": False, "host_network": False}), place())


@pytest.mark.parametrize(
    ("volumes", "policy", "said"),
    [
        ({"/data": "pvc:cache"}, {}, r"claim 'cache' for /data is not allowed on place 'k8s', which allows none.*policy\.volumes"),
        ({"/data": "pvc:jobs"}, {"volumes": ["*"]}, r"claim 'jobs' for /data is not for jobs.*it holds other jobs' files"),
        ({"/data": "/srv/data"}, {}, r"host folder '/srv/data' for /data is not allowed"),
        ({"/data": "/srv/data"}, {"mounts": ["/srv/*"]}, r"may only be read on place 'k8s'; write '/srv/data:ro'"),
        ({"/data": "/var/lib/kubelet/pods:ro"}, {"mounts": ["*"]}, r"only word for word, since it hands over the host"),
        ({"/data": "/etc/kubernetes:ro"}, {"mounts": ["/etc/*"]}, r"only word for word"),
        ({"/data": "cache"}, {}, r"write 'pvc:cache' for a claim.*\(place 'k8s'\)"),
    ],
)
def test_volumes_that_are_refused(volumes: dict[str, Any], policy: dict[str, Any], said: str, launch: Make, place: Make):
    """Claims are opened by name, folders of nodes by path."""
    with pytest.raises(LaunchRefused, match=said):
        refuse(launch(volumes=volumes), place(policy, scratch="pvc:jobs"))


def test_volumes_that_are_not(launch: Make, place: Make):
    """As the place's owner opened them."""
    refuse(launch(volumes={"/a": "pvc:cache-1", "/b": "/srv/data:ro"}), place({"volumes": ["cache-*"], "mounts": ["/srv/*"]}))


def test_images(launch: Make, place: Make):
    """As everywhere."""
    with pytest.raises(LaunchRefused, match=r"image 'evil/x' is not allowed on place 'k8s'"):
        refuse(launch(image="evil/x"), place({"images": ["python:*"]}))
