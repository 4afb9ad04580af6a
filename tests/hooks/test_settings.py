"""Tests of reading a ``dla`` connection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

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
        ({"ledger": "mysql://db/x"}, "sqlite:// or postgresql://"),
    ],
)
def test_bad_fields_are_named(extra: dict[str, Any], said: str) -> None:
    """The message says which, and what would do."""
    with pytest.raises(InvalidSpec, match=said):
        settings(**extra)


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


def test_a_kind_of_place_that_does_not_exist_is_refused() -> None:
    """The known kinds are listed."""
    with pytest.raises(InvalidSpec, match="must be one of local, got 'slurm'"):
        settings(places={"cluster": {"kind": "slurm"}})


def test_a_named_connection_that_is_missing_is_an_error_of_ours() -> None:
    """Which connection names it is said."""
    with pytest.raises(NotFound, match="lab"), _named_by("lab"):
        raise AirflowNotFoundException("The conn_id `pg` isn't defined")


def test_reading_makes_no_node(embedded: Path) -> None:
    """A command that only looks does not offer its host's CPUs."""
    assert DlaHook().workspace().ledger.nodes() == ()
    assert len(DlaHook(kind="worker").workspace().ledger.nodes()) == 1
