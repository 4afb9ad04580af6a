"""The places that a connection names, and which of them cannot be had together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, Final
from urllib.parse import urlsplit

from airflow_dla.errors import InvalidSpec
from airflow_dla.hooks.connections import ClusterAccess
from airflow_dla.specs import PlaceSpec
from airflow_dla.specs.values import mapping

#: The place of a workspace that names none: processes of Airflow's own hosts.
LOCAL: Final = PlaceSpec(name="local", kind="local")


def read_json(raw: object, where: str) -> Mapping[str, Any]:
    """Read a mapping that may have been written as JSON."""
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError as error:
            raise InvalidSpec(f"{where} must be JSON, got {str(raw)[:80]!r}: {error}") from None
    return mapping(raw, where)


def read_places(raw: object, where: str) -> tuple[PlaceSpec, ...]:
    """Read the places by name; the local one alone when nothing is said.

    Raises
    ------
    InvalidSpec
        If two are local, or an engine is named twice.
    """
    if raw in (None, ""):
        return (LOCAL,)
    given = {name: mapping(place, f"{where}.{name}") for name, place in read_json(raw, where).items()}
    places = tuple(PlaceSpec.from_mapping({**place, "name": name}, f"{where}.{name}") for name, place in given.items())
    local = [place.name for place in places if place.kind == "local"]
    if len(local) > 1:
        raise InvalidSpec(f"{where} names {', '.join(local)} as local: one local place is what one workspace can have")
    for place in places:
        same = [other.name for other in places if other.kind == place.kind == "docker" and other.url == place.url]
        if len(same) > 1:
            raise InvalidSpec(
                f"{where}: {' and '.join(same)} are one engine ({place.url}), which would be granted twice; make one place of it"
            )
    return places


def refuse_out_of_store(places: Iterable[PlaceSpec], store_url: str, where: str) -> None:
    """Refuse a place whose jobs could neither fetch nor publish.

    Raises
    ------
    InvalidSpec
        If an engine is on another host, and lacks a helper or a store that both reach; if pods are to
        speak to a store that is a folder of this host.
    """
    folder = urlsplit(store_url).scheme in {"", "file", "local", "memory"}
    for place in places:
        if place.kind == "kubernetes":
            _refuse_direct(place, store_url, where, folder=folder)
        elif place.kind == "docker" and not place.on_this_host:
            _refuse_remote(place, store_url, where, folder=folder)


def _refuse_direct(place: PlaceSpec, store_url: str, where: str, *, folder: bool) -> None:
    if place.store == "direct" and folder:
        raise InvalidSpec(
            f"{where}.{place.name}: store is direct, and pods cannot reach {store_url}, a folder of Airflow's hosts; say relay, or name "
            "a store that pods reach, as in s3://bucket/dla"
        )


def _refuse_remote(place: PlaceSpec, store_url: str, where: str, *, folder: bool) -> None:
    if place.helper is None:
        raise InvalidSpec(
            f"{where}.{place.name} is at {place.url}, which may not see this host's files, and names no helper; give it the image in "
            "which inputs are fetched and outputs published there: Python 3.11 or later, fsspec and what speaks to the store"
        )
    if place.folder is not None:
        raise InvalidSpec(f"{where}.{place.name}: {place.url} keeps jobs' files in volumes of its own; drop folder")
    if folder:
        raise InvalidSpec(
            f"{where}.{place.name} is at {place.url} and cannot reach the store {store_url}, a folder of this host; name a "
            "store that both reach, as in s3://bucket/dla, or the socket of an engine on Airflow's own hosts"
        )


def refuse_same_nodes(nodes: Mapping[str, str], clusters: Iterable[str], own: str | None, where: str) -> None:
    """Refuse places whose nodes would have one name.

    Parameters
    ----------
    nodes : mapping of place to node
        What stands for each place but the local one.
    clusters : iterable of str
        Places whose nodes are called ``PLACE.NODE``.
    own : str or None
        This host's node, where there is a local place.
    where : str
        Named in errors.

    Raises
    ------
    InvalidSpec
        If two are the same, or one might be a node of a cluster.
    """
    named = [*nodes.values(), *([own] if own else [])]
    twice = next((place for place, node in nodes.items() if named.count(node) > 1), None)
    if twice is not None:
        raise InvalidSpec(f"{where}.{twice}: this host's own node has that name already; name the place otherwise, for example 'docker'")
    for cluster in clusters:
        like = next((node for node in named if node.startswith(f"{cluster}.")), None)
        if like is not None:
            raise InvalidSpec(
                f"{where}.{cluster}: its nodes are called {cluster}.NODE, and {like!r} might be one of them; name the place otherwise"
            )


def refuse_shared_clusters(places: Iterable[PlaceSpec], accesses: Mapping[str, ClusterAccess], where: str) -> None:
    """Refuse two places that would grant the same nodes of one cluster.

    Raises
    ------
    InvalidSpec
        If neither their node selectors nor a capacity tells them apart.
    """
    granting = [place for place in places if place.kind == "kubernetes" and place.allocator == "dla" and not place.capacity]
    for one, other in combinations(granting, 2):
        theirs = other.node_selector
        apart = any(theirs.get(label, value) != value for label, value in one.node_selector.items())
        if not apart and _way(accesses[one.name]) == _way(accesses[other.name]):
            raise InvalidSpec(
                f"{where}: {one.name} and {other.name} are one cluster, whose nodes would be granted twice; give them node_selectors "
                "that no node has both of, say in each one's capacity what is its own, or make one place of them"
            )


def _way(access: ClusterAccess) -> tuple[object, ...]:
    return access.in_cluster, access.path, access.config, access.context
