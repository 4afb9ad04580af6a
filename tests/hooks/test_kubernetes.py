"""Tests of reaching a cluster as a connection says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseHook, Connection

pytest.importorskip("airflow.providers.cncf.kubernetes", reason="extra kubernetes is not installed")

from airflow_dla.errors import InvalidSpec, PlaceUnavailable
from airflow_dla.hooks import DlaHook
from airflow_dla.hooks.connections import ClusterAccess, cluster_access
from airflow_dla.hooks.kubernetes import clients, cluster_of, namespace_of
from airflow_dla.specs import PlaceSpec

PLACE = PlaceSpec(name="k8s", kind="kubernetes", connection="lab_k8s")


def kubeconfig(*contexts: str, current: str = "a") -> dict[str, Any]:
    """Return a kubeconfig whose contexts have a server and a namespace of their own name."""
    return {
        "current-context": current,
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.invalid:6443"}} for name in contexts],
        "users": [{"name": "u", "user": {"token": "s3cret"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "u", "namespace": f"ns-{name}"}} for name in contexts],
    }


def access(**extra: Any) -> ClusterAccess:
    """Read a connection with such extra fields."""
    return cluster_access(PLACE, Connection(conn_id="lab_k8s", conn_type="kubernetes", extra=json.dumps(extra)))


def everybodys() -> Any:
    """Return the settings of clients that others in this process make."""
    from kubernetes.client import Configuration

    return Configuration.get_default_copy()


def token_of(client: Any) -> str:
    """Return what a client says of itself."""
    return str(client.configuration.auth_settings()["BearerToken"]["value"])


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return which connections anybody looks up."""
    asked: list[str] = []
    monkeypatch.setattr(BaseHook, "get_connection", classmethod(lambda _, conn_id: asked.append(conn_id)))
    return asked


@pytest.mark.parametrize("written", [kubeconfig("a", "b"), json.dumps(kubeconfig("a", "b"))])
def test_a_client_is_made_of_what_the_connection_holds(written: object, lookups: list[str]) -> None:
    """Nothing is looked up again, and no other client gets its settings."""
    connect = clients(PLACE, access(kube_config=written, cluster_context="b"))
    one, other = connect(), connect()
    assert one is not other
    assert one.configuration.host == "https://b.invalid:6443"
    assert token_of(one) == "Bearer s3cret"
    assert everybodys().host != one.configuration.host
    assert lookups == []


def test_two_clusters_do_not_mix(tmp_path: Path) -> None:
    """Whichever is reached last."""
    hosts = []
    for name in "ab":
        path = tmp_path / name
        path.write_text(json.dumps(kubeconfig(name, current=name)), encoding="utf-8")
        hosts.append(clients(PLACE, access(kube_config_path=str(path))))
    made = [connect() for connect in hosts]
    assert [client.configuration.host for client in made] == ["https://a.invalid:6443", "https://b.invalid:6443"]


def test_a_file_is_read_anew_by_each_client(tmp_path: Path) -> None:
    """Its token may have been renewed meanwhile; without a file it says what is missing."""
    path = tmp_path / "config"
    connect = clients(PLACE, access(kube_config_path=str(path)))
    with pytest.raises(PlaceUnavailable, match=r"place k8s: how its cluster is reached cannot be read from connection 'lab_k8s': .*config"):
        connect()
    for token in ("old", "new"):
        config = kubeconfig("a")
        config["users"][0]["user"]["token"] = token
        path.write_text(json.dumps(config), encoding="utf-8")
        assert token_of(connect()) == f"Bearer {token}"


def test_a_pod_goes_by_its_service_account_only_in_a_pod() -> None:
    """Elsewhere it says that this is none."""
    with pytest.raises(PlaceUnavailable, match="Service host/port is not set"):
        clients(PLACE, access(in_cluster=True))()


def test_a_kubeconfig_that_is_none_is_not_repeated() -> None:
    """It may hold secrets."""
    with pytest.raises(PlaceUnavailable, match="neither YAML nor JSON") as caught:
        clients(PLACE, access(kube_config="token: s3cret: x"))()
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(access(kube_config=kubeconfig("a")))


def test_certificates_are_checked_unless_the_connection_says_otherwise() -> None:
    """In that cluster alone."""
    assert clients(PLACE, access(kube_config=kubeconfig("a")))().configuration.verify_ssl
    loose = access(kube_config=kubeconfig("a"), disable_verify_ssl="true")
    assert not clients(PLACE, loose)().configuration.verify_ssl
    assert everybodys().verify_ssl


@pytest.mark.parametrize(
    ("place", "extra", "expected"),
    [
        ({"namespace": "ml"}, {"namespace": "other"}, "ml"),
        ({}, {"namespace": "ml", "kube_config": kubeconfig("a")}, "ml"),
        ({}, {"kube_config": kubeconfig("a", "b")}, "ns-a"),
        ({}, {"kube_config": kubeconfig("a", "b"), "cluster_context": "b"}, "ns-b"),
        ({"context": "b"}, {"kube_config": kubeconfig("a", "b"), "cluster_context": "a"}, "ns-b"),
        ({}, {"kube_config": kubeconfig("a", current="gone")}, "default"),
        ({}, {"kube_config_path": "/nowhere/config"}, "default"),
        ({}, {}, "default"),
    ],
)
def test_jobs_run_in_the_namespace_that_is_named_nearest(place: dict[str, Any], extra: dict[str, Any], expected: str) -> None:
    """By the place, the connection, or the context."""
    spec = PlaceSpec(name="k8s", kind="kubernetes", connection="lab_k8s", **place)
    read = cluster_access(spec, Connection(conn_id="lab_k8s", conn_type="kubernetes", extra=json.dumps(extra)))
    assert namespace_of(spec, read) == cluster_of(spec, read).namespace == expected


def test_a_cluster_that_is_away_leaves_the_rest(embedded: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The workspace opens, and the local place takes jobs."""
    config = kubeconfig("a")
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:9"
    (tmp_path / "config").write_text(json.dumps(config), encoding="utf-8")
    places = {"here": {"kind": "local"}, "k8s": {"kind": "kubernetes", "kubeconfig": str(tmp_path / "config")}}
    monkeypatch.setenv("AIRFLOW_CONN_LAB", json.dumps({"conn_type": "dla", "extra": {"places": places}}))
    DlaHook().workspace()  # the embedded ledger, which this connection names by default
    workspace = DlaHook("lab", kind="worker").workspace()
    assert [row.node.place for row in workspace.ledger.nodes()] == ["here"]
    assert (workspace.clusters, workspace.everywhere, list(workspace.discovered)) == ({"k8s"}, {"k8s"}, ["k8s"])


def test_in_a_pod_jobs_run_in_its_own_namespace(tmp_path: Path) -> None:
    """As Kubernetes tells it."""
    own = tmp_path / "namespace"
    assert namespace_of(PLACE, access(in_cluster=True), own) == "default"
    own.write_text("airflow\n", encoding="utf-8")
    assert namespace_of(PLACE, access(in_cluster=True), own) == "airflow"


def test_old_names_of_fields_are_read() -> None:
    """What is empty or false is not said."""
    found = access(extra__kubernetes__kube_config_path="/k", extra__kubernetes__in_cluster="", kube_config=None, in_cluster=False)
    assert (found.path, found.in_cluster) == ("/k", False)


@pytest.mark.parametrize(
    ("conn_type", "extra", "said"),
    [
        ("docker", {}, "connection 'lab_k8s' is of type 'docker'; a place's cluster is a connection of type 'kubernetes'"),
        ("kubernetes", {"in_cluster": True, "kube_config": "x"}, "connection 'lab_k8s' names in_cluster and kube_config; .* give one"),
        ("kubernetes", {"kube_config_path": 3}, "connection 'lab_k8s'.kube_config_path must be"),
        ("kubernetes", {"disable_verify_ssl": 3}, "connection 'lab_k8s'.disable_verify_ssl must be"),
    ],
)
def test_a_connection_that_cannot_be_meant_is_refused(conn_type: str, extra: dict[str, Any], said: str) -> None:
    """With what would do."""
    with pytest.raises(InvalidSpec, match=said):
        cluster_access(PLACE, Connection(conn_id="lab_k8s", conn_type=conn_type, extra=json.dumps(extra)))


def test_without_a_connection_the_place_says_how() -> None:
    """A file on Airflow's hosts, or the pod's own account."""
    by_file = cluster_access(PlaceSpec(name="k8s", kind="kubernetes", kubeconfig="/etc/dla/kubeconfig", context="b"), None)
    assert (by_file.said, by_file.path, by_file.context) == ("kubeconfig /etc/dla/kubeconfig", "/etc/dla/kubeconfig", "b")
    by_pod = cluster_access(PlaceSpec(name="k8s", kind="kubernetes", in_cluster=True), None)
    assert (by_pod.said, by_pod.in_cluster) == ("the service account of its pod", True)
