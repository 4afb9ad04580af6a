"""Tests of the clients of Docker places: Airflow's own hook and the real client library, at a socket that speaks as it is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow.providers.docker", reason="extra docker is not installed")

from fakes.docker_engine import FakeEngine, nothing_in_it

from airflow_dla.errors import LaunchRefused, MissingExtra, PlaceUnavailable
from airflow_dla.hooks.connections import RegistryLogin
from airflow_dla.hooks.docker import check_login, clients, engine_of
from airflow_dla.specs import PlaceSpec

LOGIN = RegistryLogin(connection="registry", registry="reg.example.org:5000", username="dla", password="s3cret")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    """Return an engine with nothing in it."""
    found = FakeEngine(tmp_path / "d.sock", nothing_in_it)
    yield found
    found.close()


def place(url: str, **more: Any) -> PlaceSpec:
    """Return a Docker place."""
    return PlaceSpec(name="gpu1", kind="docker", url=url, **more)


def test_each_client_is_a_new_one(fake: FakeEngine) -> None:
    """Sessions are not to be shared by threads."""
    connect = clients(place(fake.address))
    first, second = connect(), connect()
    try:
        assert first is not second
        assert first.api_version == "1.41"
    finally:
        first.close()
        second.close()


def test_a_login_goes_along_without_asking_the_registry(fake: FakeEngine) -> None:
    """An outage of the registry, or a password that has expired, cuts no running job off."""
    client = clients(place(fake.address), LOGIN)()
    try:
        assert client._auth_configs.resolve_authconfig("reg.example.org:5000")["password"] == "s3cret"
        assert not any("/auth" in request for request in fake.requests)
    finally:
        client.close()


def test_a_registry_that_refuses_is_told_with_its_connection(fake: FakeEngine) -> None:
    """The registry's words, and what to correct; no password."""
    client = clients(place(fake.address))()
    try:
        with pytest.raises(
            LaunchRefused, match=r"reg\.example\.org:5000 does not let 'dla' in: .*incorrect.*connection 'registry'"
        ) as caught:
            check_login(client, place(fake.address), LOGIN)
        assert "s3cret" not in str(caught.value)
    finally:
        client.close()


def test_an_engine_that_is_not_there_is_said_to_be_unavailable(tmp_path: Path) -> None:
    """With the reason, which Airflow's hook would keep to itself."""
    engine = engine_of(place(f"unix://{tmp_path}/none.sock"), None)
    with pytest.raises(PlaceUnavailable, match=r"place gpu1: .*there is no such socket: is dockerd running"):
        engine.facts()


def test_an_engine_that_is_no_engine_is_unavailable(tmp_path: Path) -> None:
    """Something else may listen there."""
    other = FakeEngine(tmp_path / "d.sock", lambda _: iter([b"220 smtp\r\n"]))
    try:
        with pytest.raises(PlaceUnavailable, match="place gpu1"):
            engine_of(place(other.address), None).facts()
    finally:
        other.close()


def test_ssh_without_what_speaks_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client library would only stumble."""
    monkeypatch.setitem(sys.modules, "paramiko", None)
    with pytest.raises(MissingExtra, match=r"place 'gpu1' is at ssh://dla@gpu1, which needs paramiko"):
        clients(place("ssh://dla@gpu1"))()


def test_without_the_provider_the_extra_is_named(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only when a client is wanted: a host that never talks to engines needs none."""
    connect = clients(place(fake.address))
    monkeypatch.setitem(sys.modules, "airflow.providers.docker.hooks.docker", None)
    with pytest.raises(MissingExtra, match=r"pip install 'airflow-dla\[docker\]'"):
        connect()
