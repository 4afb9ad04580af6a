"""Tests of places: what a connection may say of them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.errors import InvalidSpec, SecretExposed
from airflow_dla.specs import PlacePolicy, PlaceSpec


def docker(**more: Any) -> PlaceSpec:
    """Read a Docker place."""
    return PlaceSpec.from_mapping({"name": "gpu1", "kind": "docker", **more})


def cluster(**more: Any) -> PlaceSpec:
    """Read a place on Kubernetes."""
    return PlaceSpec.from_mapping({"name": "k8s", "kind": "kubernetes", "connection": "k8s", **more})


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


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"url": "tcp://api:6443"},
            r"place 'k8s' is of kind kubernetes and takes no url, which kind: docker does; the API server comes from",
        ),
        ({"runtime": "nvidia"}, r"takes no runtime, which kind: docker does; say runtime_class"),
        ({"folder": "/jobs", "tls": {}}, r"takes no folder, which kind: docker does; files of jobs lie where scratch says"),
        ({"policy": {"networks": ["none"], "pids": 9}}, r"takes no policy.networks, policy.pids, which.*NetworkPolicy.*podPidsLimit"),
        ({"connection": None}, r"place 'k8s' names no cluster; say one of connection .*kubeconfig.*in_cluster: true"),
        ({"in_cluster": True}, r"place 'k8s' names connection and in_cluster; say one of"),
        ({"connection": None, "in_cluster": True, "context": "a"}, r"context 'a' is one of a kubeconfig"),
        ({"kubeconfig": "config"}, r"place\.kubeconfig must be the absolute path of a file"),
        ({"namespace": "ML"}, r"place\.namespace must be a namespace: at most 63"),
        ({"allocator": "slurm"}, r"place\.allocator must be one of dla, kueue"),
        ({"allocator": "kueue"}, r"allocator kueue and queue None; Kueue needs the name of a LocalQueue"),
        ({"queue": "train"}, r"allocator dla and queue 'train'"),
        ({"workload_priorities": {"high": 10}}, r"workload_priorities are Kueue's, and here our own rounds go by a job's priority"),
        ({"workload_priorities": {"High": 10}}, r"place\.workload_priorities key must be the name of an object of the cluster"),
        ({"store": "s3"}, r"place\.store must be one of direct, relay"),
        ({"scratch": "disk"}, r"place\.scratch must be 'emptydir', 'pvc:NAME', or"),
        ({"scratch": "pvc:"}, r"place\.scratch must be the name of an object of the cluster.*got 'pvc:'"),
        ({"scratch": {"storage_class": "fast"}}, r"place\.scratch lacks size"),
        ({"scratch": {"size": "1-2GiB"}}, r"place\.scratch\.size must be one amount > 0"),
        ({"scratch": {"size": 0}}, r"place\.scratch\.size must be one amount > 0"),
        ({"scratch": {"class": "fast", "size": 1}}, r"place\.scratch: unknown key 'class'"),
        ({"gpu_resource": "gpu"}, r"place\.gpu_resource must be the cluster's name of a device, such as 'nvidia.com/gpu'"),
        ({"resources": {"gpu": "amd.com/gpu"}}, r"must be slices of GPUs such as mig-1g.10gb, got 'gpu'; that is gpu_resource"),
        ({"resources": {"cpu": "a.b/cpu"}}, r"got 'cpu'; every cluster calls it the same"),
        ({"resources": {"tpu": "google.com/tpu"}}, r"must be a MIG profile such as 1g.10gb"),
        ({"node_selector": {"pool": "a b"}}, r"place\.node_selector\.pool must be a label's value"),
        ({"node_selector": {"a/b/c": "d"}}, r"place\.node_selector key must be a label's key"),
        ({"tolerations": [{"key": "gpu", "effect": "Never"}]}, r"place\.tolerations\[0\]\.effect must be one of NoSchedule"),
        ({"tolerations": [{"key": "gpu", "operator": "In"}]}, r"tolerations\[0\]\.operator must be Exists or Equal"),
        ({"tolerations": [{"value": "gpu"}]}, r"tolerations\[0\] lacks a key"),
        ({"tolerations": [{"key": "a", "toleration_seconds": 3}]}, r"unknown key 'toleration_seconds'.*did you mean 'tolerationSeconds'"),
        ({"service_account": "Train"}, r"place\.service_account must be the name of an object of the cluster"),
        ({"image_pull_secrets": ["x" * 254]}, r"place\.image_pull_secrets\[0\] must be the name of an object"),
    ],
)
def test_what_breaks_a_rule_of_clusters_is_named(fields: dict[str, Any], said: str) -> None:
    """The field, the value, the rule and what was meant stand in the message."""
    with pytest.raises(InvalidSpec, match=said):
        cluster(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"namespace": "ml"}, r"place 'gpu1' is of kind docker and takes no namespace, which kind: kubernetes does; an engine has none"),
        ({"runtime_class": "nvidia"}, r"takes no runtime_class, which kind: kubernetes does; say runtime"),
        ({"policy": {"service_accounts": ["a"]}}, r"takes no policy\.service_accounts, which kind: kubernetes does; drop it"),
    ],
)
def test_an_engine_takes_nothing_of_clusters(fields: dict[str, Any], said: str) -> None:
    """A field that would do nothing is refused, not kept."""
    with pytest.raises(InvalidSpec, match=said):
        docker(**fields)


def test_a_toleration_may_have_seconds() -> None:
    """In Kubernetes' own words; what is empty says nothing."""
    found = cluster(tolerations=[{"key": "a", "operator": "Exists", "value": "", "effect": "NoExecute", "tolerationSeconds": "30"}])
    assert found.tolerations == ({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},)


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
    assert not cluster().on_this_host
