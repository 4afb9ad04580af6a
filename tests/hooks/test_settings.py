"""Tests of reading a ``dla`` connection."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_dla.control import Timing
from airflow_dla.errors import InvalidSpec, NotFound, SecretExposed
from airflow_dla.hooks import DlaHook
from airflow_dla.hooks.settings import Settings, embedded_settings, named_connections, read_settings
from airflow_dla.hooks.workspace import _named_by, local_node, refuse_embedded


def connection(**extra: Any) -> Connection:
    """Return a connection of type ``dla``."""
    return Connection(conn_id="lab", conn_type="dla", extra=json.dumps(extra))


def settings(**extra: Any) -> Settings:
    """Read a connection that names no other."""
    return read_settings(connection(**extra), {})


def test_an_empty_connection_means_the_defaults() -> None:
    """Everything lies below Airflow's home."""
    found, default = settings(), embedded_settings("lab")
    assert found.ledger_url == default.ledger_url
    assert found.store_url.endswith("/dla/store")
    assert found.request == {"cpu": 1, "memory": "1GiB"}
    assert not found.embedded


def test_a_ledger_is_named_by_another_connection() -> None:
    """The password stays in that connection, and out of what is shown."""
    ledger = Connection(conn_id="pg", conn_type="postgres", host="db", login="dla", password="s3cret", schema="dla", port=5432)
    named = connection(ledger="pg", store="s3://bucket/dla")
    assert named_connections(named) == ("pg",)
    found = read_settings(named, {"pg": ledger})
    assert found.ledger_url == "postgresql://dla:s3cret@db:5432/dla"
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    "extra", [{"ledger": "postgresql://dla:s3cret@db/dla"}, {"store": "s3://key:s3cret@bucket"}, {"store": "https://x/y?token=s3cret"}]
)
def test_a_password_in_a_url_is_refused_without_repeating_it(extra: dict[str, str]) -> None:
    """Connections are where passwords belong."""
    with pytest.raises(SecretExposed) as caught:
        settings(**extra)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"legder": "x"}, "did you mean 'ledger'"),
        ({"capacity": "{"}, "must be JSON"),
        ({"allocation": {"strategy": "magic"}}, "must be one of"),
        ({"request": {"cpu": -1}}, "cpu"),
        ({"timing": {"unfolowed": "1h"}}, "did you mean 'unfollowed'"),
        ({"timing": {"silent": "soon"}}, "timing.silent must be a duration"),
        ({"timing": {"lease": 10}}, "make lease at least twice renew"),
        ({"ledger": "mysql://db/x"}, "sqlite:// or postgresql://"),
    ],
)
def test_bad_fields_are_named(extra: dict[str, Any], said: str) -> None:
    """The message says which, and what would do."""
    with pytest.raises(InvalidSpec, match=said):
        settings(**extra)


def test_how_long_is_waited() -> None:
    """What is not said is the default; the web UI sends text."""
    timing = settings(timing='{"unfollowed": "2h", "lease": "30s", "renew": 10}').timing
    assert timing == Timing(unfollowed_s=7200.0, lease_s=30.0, renew_s=10.0)
    assert settings().timing == Timing()


def test_another_type_of_connection_is_no_workspace() -> None:
    """A connection of type http cannot be one."""
    with pytest.raises(InvalidSpec, match="of type 'http'"):
        read_settings(Connection(conn_id="x", conn_type="http"), {})


def test_named_capacity_overrides_what_is_found() -> None:
    """GPUs count only when the workspace names them."""
    node = local_node(settings(capacity={"cpu": 1, "gpu": 2, "gpu_type": "h200"}))
    assert node.capacity["cpu"] == 1
    assert node.gpu_ids == ("0", "1")
    assert node.labels == {"gpu_type": "h200"}
    assert len(node.cpu_ids) == 1
    assert "gpu" not in local_node(settings()).capacity


def test_named_capacity_has_labels_and_slices() -> None:
    """Slices count by their ids; labels are those of the node."""
    slices = {"1g.10gb": ["MIG-a", "MIG-b"], "3g.40gb": ["MIG-c"]}
    node = local_node(settings(capacity={"labels": {"zone": "a"}, "gpu_type": "h200", "mig_ids": slices, "mig-1g.10gb": 1}))
    assert node.labels == {"zone": "a", "gpu_type": "h200"}
    assert (node.capacity["mig-1g.10gb"], node.capacity["mig-3g.40gb"]) == (1.0, 1.0)
    assert node.mig_ids == {"1g.10gb": ("MIG-a", "MIG-b"), "3g.40gb": ("MIG-c",)}
    assert node.gpu_ids == ()


@pytest.mark.parametrize(
    ("capacity", "said"),
    [
        ({"mig-1g.10gb": 2}, "mig-1g.10gb is 2, but mig_ids names 0 of them; a job finds its slice by its id"),
        ({"mig-9g.10gb": 2}, "unknown key 'mig-9g.10gb'; known are cpu, .*, mig-1g.10gb"),
        ({"mig_ids": {"small": ["MIG-a"]}}, "must be a MIG profile such as 1g.10gb"),
        ({"labels": ["a"]}, "labels must be a mapping"),
    ],
)
def test_slices_and_labels_that_make_no_sense(capacity: dict[str, Any], said: str) -> None:
    """The message names the connection and what would do."""
    with pytest.raises(InvalidSpec, match=rf"connection 'lab'\.capacity.*{said}"):
        local_node(settings(capacity=capacity))


@pytest.mark.parametrize(
    ("option", "one_host", "allowed"),
    [("auto", True, True), ("auto", False, False), ("always", False, True), ("never", True, False)],
)
def test_when_the_embedded_default_applies(option: str, one_host: bool, allowed: bool) -> None:
    """Only where all of Airflow is on one host, unless the option says otherwise."""
    if allowed:
        refuse_embedded(option, one_host)
    else:
        with pytest.raises(NotFound, match="dla_default"):
            refuse_embedded(option, one_host)


def test_the_key_tells_settings_apart() -> None:
    """Two connections with different passwords are different workspaces to a process."""
    assert settings().key == settings().key
    assert settings().key != settings(jobs_folder="/elsewhere").key


@pytest.mark.parametrize(
    ("places", "place"), [(None, "local"), ({}, None), ({"here": {"kind": "local"}}, "here"), ('{"here": {"kind": "local"}}', "here")]
)
def test_places_are_named(places: Any, place: str | None) -> None:
    """One local place by default, none when an empty mapping says so."""
    extra = {} if places is None else {"places": places}
    assert settings(**extra).place == place


ENGINE = {"kind": "docker", "url": "unix:///run/docker.sock"}
FAR = {"kind": "docker", "url": "tcp://gpu1:2376"}


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ({"cluster": {"kind": "slurm"}}, r"places\.cluster\.kind must be one of local, docker"),
        ({"a": {"kind": "local"}, "b": {"kind": "local"}}, "names a, b as local: one local place"),
        ({"a": ENGINE, "b": ENGINE}, r"a and b are one engine \(unix:///run/docker.sock\), which would be granted twice"),
        ({"far": FAR}, r"places\.far is at tcp://gpu1:2376, which may not see this host's files, and names no helper"),
        ({"far": {**FAR, "helper": "h", "folder": "/jobs"}}, r"places\.far: tcp://gpu1:2376 keeps jobs' files in volumes.*drop folder"),
        ({"far": {**FAR, "helper": "h"}}, r"places\.far is at tcp://gpu1:2376 and cannot reach the store /.*/store, a folder of this host"),
        ({"gpu1": {**ENGINE, "ulr": 1}}, r"places\.gpu1: unknown key 'ulr'.*did you mean 'url'"),
        ({socket.gethostname(): ENGINE, "l": {"kind": "local"}}, "this host's own node has that name already"),
        ({"any": {"kind": "local"}}, "must not be 'any'"),
        ([1], "must be a mapping"),
    ],
)
def test_places_that_cannot_be_are_refused(places: Any, said: str) -> None:
    """The connection, the place and what would do stand in the message."""
    with pytest.raises(InvalidSpec, match=rf"connection 'lab'\.places.*{said}|{said}"):
        settings(places=places)


def test_several_places_have_a_node_each() -> None:
    """An engine behind a socket is another one on each host."""
    named = connection(places={"here": {"kind": "local"}, "gpu1": ENGINE})
    alone, spread = (read_settings(named, {}, one_host=one_host) for one_host in (True, False))
    host = socket.gethostname()
    assert [alone.node_of(place) for place in alone.places] == [host, "gpu1"]
    assert [spread.node_of(place) for place in spread.places] == [host, f"gpu1-{host}"]
    assert alone.key != spread.key


def test_an_engine_behind_an_address_is_the_same_on_every_host() -> None:
    """Its node has the place's name alone, and says so by its label where Airflow runs on several hosts."""
    named = connection(store="s3://bucket/dla", places={"here": ENGINE, "far": {**FAR, "helper": "h"}})
    alone, spread = (read_settings(named, {}, one_host=one_host) for one_host in (True, False))
    far = spread.places[1]
    assert [found.node_of(far) for found in (alone, spread)] == ["far", "far"]
    assert [found.everywhere for found in (alone, spread)] == [{"far"}, {"far"}]
    assert (alone.labels_of(far), spread.labels_of(far)) == ({"images": "yes"}, {"images": "yes", "any-host": "yes"})


def test_a_place_is_named_after_nothing_on_several_hosts() -> None:
    """Its node has the host's name behind its own, so that two hosts never share one."""
    name = socket.gethostname()
    found = read_settings(connection(places={name: ENGINE, "l": {"kind": "local"}}), {}, one_host=False)
    assert found.node_of(found.engines[0]) == f"{name}-{name}"


def test_a_place_names_its_registry_by_a_connection() -> None:
    """It is looked up with the others; its password is in the key and in nothing that is shown."""
    named = connection(ledger="pg", places={"gpu1": {**ENGINE, "connection": "registry"}})
    assert named_connections(named) == ("pg", "registry")
    ledger = Connection(conn_id="pg", conn_type="postgres", host="db", login="dla", schema="dla")

    def read(password: str) -> Settings:
        registry = Connection(conn_id="registry", conn_type="docker", host="reg.example.org", port=5000, login="dla", password=password)
        return read_settings(named, {"pg": ledger, "registry": registry})

    found = read("s3cret")
    assert found.logins["gpu1"].registry == "reg.example.org:5000"
    assert found.logins["gpu1"].password == "s3cret"
    assert "s3cret" not in repr(found) + repr(found.logins)
    assert found.key != read("other").key


@pytest.mark.parametrize(
    ("registry", "said"),
    [({"conn_type": "http", "host": "x"}, "of type 'http'; a place's registry"), ({"conn_type": "docker", "host": "x"}, "and a login")],
)
def test_a_registry_that_cannot_be_logged_into_is_refused(registry: dict[str, Any], said: str) -> None:
    """The connection is named."""
    named = connection(places={"gpu1": {**ENGINE, "connection": "registry"}})
    with pytest.raises(InvalidSpec, match=f"connection 'registry'.*{said}"):
        read_settings(named, {"registry": Connection(conn_id="registry", **registry)})


def test_a_named_connection_that_is_missing_is_an_error_of_ours() -> None:
    """Which connection names it is said."""
    with pytest.raises(NotFound, match="lab"), _named_by("lab"):
        raise AirflowNotFoundException("The conn_id `pg` isn't defined")


def test_reading_makes_no_node(embedded: Path) -> None:
    """A command that only looks does not offer its host's CPUs."""
    assert DlaHook().workspace().ledger.nodes() == ()
    assert len(DlaHook(kind="worker").workspace().ledger.nodes()) == 1


def kubernetes(**places: dict[str, Any]) -> dict[str, Any]:
    """Return such clusters as places; each is reached by the service account of the worker's pod unless it says otherwise."""
    ways = {"connection", "kubeconfig"}
    own = {name: {} if ways & place.keys() else {"in_cluster": True} for name, place in places.items()}
    return {name: {"kind": "kubernetes", **own[name], **place} for name, place in places.items()}


def test_a_cluster_is_reached_by_a_connection() -> None:
    """Which is looked up with the workspace's others; what is secret in it stays out of what is shown."""
    lab = connection(places=kubernetes(k8s={"connection": "lab_k8s"}))
    assert named_connections(lab) == ("lab_k8s",)
    config = json.dumps({"users": [{"user": {"token": "s3cret"}}]})
    named = Connection(conn_id="lab_k8s", conn_type="kubernetes", extra=json.dumps({"kube_config": config, "namespace": "ml"}))
    found = read_settings(lab, {"lab_k8s": named}, one_host=False)
    assert found.accesses["k8s"].namespace == "ml"
    assert "s3cret" not in repr(found)
    assert found.logins == {}
    other = Connection(conn_id="lab_k8s", conn_type="kubernetes", extra=json.dumps({"kube_config": config, "namespace": "other"}))
    assert read_settings(lab, {"lab_k8s": other}, one_host=False).key != found.key


def test_every_host_reaches_every_node_of_a_cluster() -> None:
    """By the place's name and the node's own."""
    found = settings(places=kubernetes(k8s={}) | {"here": {"kind": "local"}})
    assert (found.clusters, found.everywhere) == ({"k8s"}, {"k8s"})
    assert [found.reaches(node) for node in ("k8s", "k8s.gpu-1.lab", found.node, "k8s2.a", "elsewhere")] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (
            kubernetes(k8s={"store": "direct"}),
            "places.k8s: store is direct, and pods cannot reach .*, a folder .*; say relay",
        ),
        (kubernetes(k8s={}, **{"k8s.eu": {}}), "places.k8s: its nodes are called k8s.NODE, and 'k8s.eu' might be one of them"),
        (kubernetes(a={}, b={}), "a and b are one cluster, whose nodes would be granted twice; give them node_selectors"),
        (kubernetes(a={"namespace": "x"}, b={"namespace": "y"}), "a and b are one cluster"),
        (kubernetes(a={"node_selector": {"disk": "ssd"}}, b={"node_selector": {"zone": "a"}}), "a and b are one cluster"),
        (kubernetes(a={"kubeconfig": "/k", "context": "c"}, b={"kubeconfig": "/k", "context": "c"}), "a and b are one cluster"),
        ({"here": {"kind": "local"}} | kubernetes(**{socket.gethostname(): {}}), "this host's own node has that name already"),
    ],
)
def test_places_that_cannot_be_had_together(places: dict[str, Any], said: str) -> None:
    """The message says what would do."""
    with pytest.raises(InvalidSpec, match=said):
        settings(places=places)


@pytest.mark.parametrize(
    "places",
    [
        kubernetes(a={"node_selector": {"pool": "a"}}, b={"node_selector": {"pool": "b", "zone": "x"}}),
        kubernetes(a={"capacity": {"cpu": 4}}, b={}),
        kubernetes(a={"allocator": "kueue", "queue": "q"}, b={"allocator": "kueue", "queue": "r"}),
        kubernetes(a={"kubeconfig": "/k", "context": "c"}, b={"kubeconfig": "/k", "context": "d"}),
        kubernetes(a={"kubeconfig": "/k"}, b={}),
    ],
)
def test_places_on_one_cluster_that_are_told_apart(places: dict[str, Any]) -> None:
    """By their nodes, by what each may grant, or because somebody else grants."""
    assert len(settings(places=places).places) == 2
