"""Tests of nodes that are looked at live."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fixtures_workspace import job_spec

from airflow_dla.control import Crew, Follow, Listener, Timing, Workspace, ask, refresh_nodes, refuse_never_grantable
from airflow_dla.errors import DlaError, InvalidSpec, NeverGrantable, PlaceUnavailable
from airflow_dla.ledger import Lease
from airflow_dla.specs import Demand, Node, Request


class MadeUpMachine:
    """A machine whose capacity, and whether it answers, the test decides."""

    def __init__(self, name: str, cpu: float = 4.0) -> None:
        self.name = name
        self.cpu = cpu
        self.error: DlaError | None = None
        self.looks = 0

    def discover(self) -> Sequence[Node]:
        """Return it as it is now."""
        self.looks += 1
        if self.error is not None:
            raise self.error
        return (Node(name=self.name, place=self.name, capacity={"cpu": self.cpu}),)

    def whole(self) -> Sequence[Node]:
        """Return it without its other users, who have all but what is there now of eight CPUs."""
        if self.error is not None:
            raise self.error
        return (Node(name=self.name, place=self.name, capacity={"cpu": 8.0}),)


class MadeUpCluster(MadeUpMachine):
    """A cluster whose nodes the test decides."""

    def __init__(self, name: str, *own: str) -> None:
        super().__init__(name)
        self.own = own

    def discover(self) -> Sequence[Node]:
        """Return those that are there."""
        return tuple(replace(node, name=f"{self.name}.{one}") for node in super().discover() for one in self.own)


def watching(workspace: Workspace, *machines: MadeUpMachine, look_s: float = 0.0) -> Workspace:
    """Return the workspace with these machines."""
    timing = replace(workspace.timing, look_s=look_s)
    clusters = frozenset(machine.name for machine in machines if isinstance(machine, MadeUpCluster))
    return replace(workspace, discovered={machine.name: machine for machine in machines}, timing=timing, clusters=clusters)


def spoken(workspace: Workspace) -> dict[str, bool]:
    """Return which nodes of a cluster the ledger knows, and whether each may be granted from."""
    return {row.node.name: row.silent_since is None for row in workspace.ledger.nodes() if "." in row.node.name}


def cpus(workspace: Workspace, node: str) -> float | None:
    """Return what the ledger knows of a node's CPUs."""
    return next((row.node.capacity["cpu"] for row in workspace.ledger.nodes() if row.node.name == node), None)


def test_a_changed_capacity_is_written_down(workspace: Workspace) -> None:
    """The next round knows it."""
    machine = MadeUpMachine("gpu1")
    watched = watching(workspace, machine)
    refresh_nodes(watched)
    machine.cpu = 2.5
    refresh_nodes(watched)
    assert cpus(workspace, "gpu1") == 2.5


@pytest.mark.parametrize("error", [PlaceUnavailable("place a does not answer"), InvalidSpec("capacity makes no sense")])
def test_an_error_of_one_disturbs_no_other(workspace: Workspace, error: DlaError) -> None:
    """It is granted nothing until it answers."""
    lost, well = MadeUpMachine("a"), MadeUpMachine("b")
    watched = watching(workspace, lost, well)
    refresh_nodes(watched)
    lost.error, well.cpu = error, 1.0
    refresh_nodes(watched)
    silent = {row.node.name: row.silent_since is not None for row in workspace.ledger.nodes()}
    assert (silent["a"], silent["b"], cpus(workspace, "b")) == (True, False, 1.0)
    lost.error = None
    refresh_nodes(watched)
    assert all(row.silent_since is None for row in workspace.ledger.nodes())


def test_nobody_asks_twice_within_twenty_seconds(workspace: Workspace) -> None:
    """Whoever asked last has asked for all processes of the workspace."""
    machine = MadeUpMachine("gpu1")
    refresh_nodes(watching(workspace, machine, look_s=Timing().look_s))
    refresh_nodes(replace(watching(workspace, machine, look_s=Timing().look_s), follower="another"))
    assert machine.looks == 1


def test_each_node_of_a_cluster_is_one(workspace: Workspace) -> None:
    """Nobody asks again while one of them is fresh; all are silent while the cluster is."""
    cluster = MadeUpCluster("k8s", "a", "b.lab")
    refresh_nodes(watching(workspace, cluster, look_s=Timing().look_s))
    refresh_nodes(watching(workspace, cluster, look_s=Timing().look_s))
    assert (spoken(workspace), cluster.looks) == ({"k8s.a": True, "k8s.b.lab": True}, 1)
    cluster.error = PlaceUnavailable("place k8s does not answer")
    refresh_nodes(watching(workspace, cluster))
    assert spoken(workspace) == {"k8s.a": False, "k8s.b.lab": False}


def test_a_node_that_its_cluster_lost_is_granted_nothing(workspace: Workspace) -> None:
    """It is forgotten once it is long gone, unless something is still granted there."""
    cluster = MadeUpCluster("k8s", "a", "b", "c")
    watched = watching(workspace, cluster)
    refresh_nodes(watched)
    demand = Demand(id="d", request=Request.from_mapping({"cpu": 1}), node="k8s.b")
    assert isinstance(ask(watched, [demand])["d"], Lease)
    cluster.own = ("a",)
    refresh_nodes(watched)
    assert spoken(workspace) == {"k8s.a": True, "k8s.b": False, "k8s.c": False}
    hasty = replace(watched, timing=replace(watched.timing, silent_s=0.0))
    refresh_nodes(hasty)
    assert spoken(workspace) == {"k8s.a": True, "k8s.b": False}
    cluster.own = ("a", "b")
    refresh_nodes(hasty)
    assert spoken(workspace) == {"k8s.a": True, "k8s.b": True}


def test_what_others_use_now_may_be_waited_for(workspace: Workspace) -> None:
    """Only what is larger than the whole machine, or asks for another node, is refused at once."""
    machine = MadeUpMachine("gpu1", cpu=0.5)
    watched = watching(workspace, machine)
    refresh_nodes(watched)

    def asks(cpu: int, node: str | None = None) -> Demand:
        return Demand(id="d", request=Request.from_mapping({"cpu": cpu}), node=node)

    refuse_never_grantable(watched, asks(6))
    for demand in (asks(9), asks(6, node="fake")):
        with pytest.raises(NeverGrantable, match="can never be granted"):
            refuse_never_grantable(watched, demand)
    machine.error = PlaceUnavailable("gpu1 does not answer")
    refuse_never_grantable(watched, asks(9))


def test_who_only_reads_makes_no_nodes(workspace: Workspace) -> None:
    """A command does not look at machines."""
    machine = MadeUpMachine("gpu1")
    refresh_nodes(replace(watching(workspace, machine), kind="other"))
    assert machine.looks == 0


def test_a_crew_looks_while_it_follows(workspace: Workspace) -> None:
    """At each renewal of its leases, beside the following."""
    machine = MadeUpMachine("gpu1")
    watched = watching(workspace, machine)
    crew = Crew(watched)
    follow = Follow(watched, workspace.ledger.open_attempt(job_spec(), node="fake", deferred=False), Listener())
    crew.join(follow)
    until = time.monotonic() + 10
    while machine.looks < 3 and time.monotonic() < until:
        machine.cpu += 1
        time.sleep(0.02)
    crew.leave(follow)
    assert machine.looks >= 3
    assert cpus(workspace, "gpu1") is not None
