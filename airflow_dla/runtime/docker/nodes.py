"""What an engine's host has left for us: what it has, less what others use there.

What is used is what was set aside: limits of CPUs, CPU sets and memory of running
containers that are not ours, and GPUs that such containers were given or that processes of
others compute on. A container without a limit may use nothing or everything; nobody can
tell beforehand, so it counts for nothing: whoever shares an engine with such containers
says in the place's ``capacity`` what may be granted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from airflow_dla.runtime.capacity import overridden
from airflow_dla.runtime.docker.facts import EngineFacts
from airflow_dla.runtime.gpus import Gpu, groups_of, nvidia_gpus
from airflow_dla.specs import Node, PlaceSpec, mig_profile
from airflow_dla.specs.resources import GIB

_NANO: Final = 10**9
#: What is granted of anything is told to so small a part of it.
_GRAIN: Final = 1000


@dataclass(frozen=True, slots=True)
class Use:
    """What others have of a host.

    Parameters
    ----------
    cpu : float
        Cores.
    memory_gib : float
    cpu_ids : frozenset of int
        CPUs that somebody may use whole.
    gpu_ids : frozenset of str
        GPUs and slices, by id or by number in their driver's order.

    Examples
    --------
    >>> (Use(cpu=1.5) + Use(cpu=2.0, cpu_ids=frozenset({0, 1}))).cpu
    3.5
    """

    cpu: float = 0.0
    memory_gib: float = 0.0
    cpu_ids: frozenset[int] = frozenset()
    gpu_ids: frozenset[str] = frozenset()

    def __add__(self, other: Use) -> Use:
        return Use(
            self.cpu + other.cpu,
            self.memory_gib + other.memory_gib,
            self.cpu_ids | other.cpu_ids,
            self.gpu_ids | other.gpu_ids,
        )


def use_of(host_config: Mapping[str, Any]) -> Use:
    """Return what a container was given, by the ``HostConfig`` it was made with.

    Examples
    --------
    >>> use_of({"NanoCpus": 1_500_000_000, "Memory": 2**30})
    Use(cpu=1.5, memory_gib=1.0, cpu_ids=frozenset(), gpu_ids=frozenset())
    >>> use_of({"CpusetCpus": "0-1,4"}).cpu
    3.0
    """
    ids, quota = cpu_set(host_config.get("CpusetCpus") or ""), _quota(host_config)
    whole = bool(ids) and (quota is None or quota >= len(ids))
    requests = host_config.get("DeviceRequests") or ()
    return Use(
        cpu=float(len(ids)) if whole else quota or 0.0,
        memory_gib=(host_config.get("Memory") or 0) / GIB,
        cpu_ids=ids if whole else frozenset(),
        gpu_ids=frozenset(id_ for request in requests for id_ in request.get("DeviceIDs") or ()),
    )


def _quota(host_config: Mapping[str, Any]) -> float | None:
    if nano := host_config.get("NanoCpus"):
        return float(nano) / _NANO
    quota, period = host_config.get("CpuQuota") or 0, host_config.get("CpuPeriod") or 100_000
    return quota / period if quota > 0 else None


def cpu_set(written: str) -> frozenset[int]:
    """Read a set of CPUs as the kernel writes it.

    Examples
    --------
    >>> sorted(cpu_set("0-2,7"))
    [0, 1, 2, 7]
    """
    parts = [part.partition("-") for part in written.split(",") if part.strip()]
    return frozenset(number for first, _, last in parts for number in range(int(first), int(last or first) + 1))


def busy_gpus(gpus: Iterable[Gpu], ours: Collection[str], groups: Callable[[int], str]) -> frozenset[str]:
    """Return the GPUs on which a process computes that is in none of our containers.

    Parameters
    ----------
    gpus : iterable of `Gpu`
    ours : collection of str
        Ids of our containers.
    groups : callable
        Returns the control groups of a process. One that is not to be seen from here (another
        pid namespace) may be ours, and is not counted.
    """

    def is_foreign(pid: int) -> bool:
        written = groups(pid)
        return bool(written) and not any(container in written for container in ours)

    return frozenset(gpu.id for gpu in gpus if any(map(is_foreign, gpu.pids)))


def node_of(place: PlaceSpec, name: str, facts: EngineFacts, used: Use = Use(), gpus: Sequence[Gpu] = ()) -> Node:
    """Return an engine as a node: what its host has less what others use, overridden by the place's capacity.

    Parameters
    ----------
    place : `PlaceSpec`
    name : str
        Of the node.
    facts : `EngineFacts`
    used : `Use`
        By others than our jobs here.
    gpus : sequence of `Gpu`
        Of its host, in their driver's order; granted only where the engine can give them to containers.

    Examples
    --------
    >>> place, host = PlaceSpec(name="gpu1", kind="docker"), EngineFacts(name="h", api_version="1.41", cpus=4, memory_bytes=2**33)
    >>> node = node_of(place, "gpu1", host, Use(cpu=1.0, memory_gib=2.0, cpu_ids=frozenset({0})))
    >>> node.capacity, node.cpu_ids
    ({'cpu': 3.0, 'memory': 6.0}, (1, 2, 3))
    """
    free = [gpu for index, gpu in enumerate(gpus) if not {gpu.id, str(index)} & used.gpu_ids] if _gives_gpus(place, facts) else []
    whole = [gpu for gpu in free if not gpu.slices]
    mig_ids = _slices(free, used)
    found = Node(
        name=name,
        place=place.name,
        capacity={
            "cpu": _floor(facts.cpus - used.cpu),
            "memory": _floor(facts.memory_bytes / GIB - used.memory_gib),
            **({"gpu": float(len(whole)), "gpu_memory": _floor(sum(gpu.memory_gib for gpu in whole))} if whole else {}),
            **{f"mig-{profile}": float(len(ids)) for profile, ids in mig_ids.items()},
        },
        labels={**_types(whole), **place.labels},
        cpu_ids=tuple(number for number in range(facts.cpus) if number not in used.cpu_ids),
        gpu_ids=tuple(gpu.id for gpu in whole),
        mig_ids=mig_ids,
    )
    return overridden(found, place.capacity, f"place {place.name!r}: capacity")


def _gives_gpus(place: PlaceSpec, facts: EngineFacts) -> bool:
    """Whether containers of an engine can have GPUs: by NVIDIA's runtime, or by the one that the place names."""
    return place.runtime is not None or "nvidia" in facts.runtimes


def _slices(gpus: Iterable[Gpu], used: Use) -> dict[str, tuple[str, ...]]:
    found = [part for gpu in gpus for part in gpu.slices if part[1] not in used.gpu_ids and mig_profile(f"mig-{part[0]}")]
    return {profile: tuple(id_ for other, id_ in found if other == profile) for profile in dict.fromkeys(profile for profile, _ in found)}


def _types(gpus: Iterable[Gpu]) -> dict[str, str]:
    """Return the label of the type of a node's GPUs, where they are of one."""
    types = {gpu.type for gpu in gpus}
    return {"gpu_type": types.pop()} if len(types) == 1 else {}


def _floor(amount: float) -> float:
    return max(0, math.floor(amount * _GRAIN)) / _GRAIN


class EngineLike(Protocol):
    """The part of an engine that is looked at here."""

    def facts(self) -> EngineFacts:
        """Return what it says of itself and its host."""

    def foreign(self, workspace: str | None = None) -> Sequence[Mapping[str, Any]]:
        """Return the running containers that are not a workspace's, with their ``HostConfig``."""

    def listing(self, workspace: str, *, max_age_s: float = 0.0) -> Mapping[str, Any]:
        """Return a workspace's containers, each with its ``id``."""


class EngineNode:
    """Looks at an engine's host, as often as it is asked.

    Parameters
    ----------
    engine : `EngineLike`
    place : `PlaceSpec`
    name : str
        Of the node.
    workspace : str
        Identity of the workspace, whose containers are ours.
    labels : mapping of str
        What the node is known by besides the place's own labels.
    taken : `Use`
        What somebody else of ours has of this host: its local place.
    gpus : callable
        Returns the GPUs of this host; those of an engine elsewhere nobody sees from here, and the place's capacity must name them.
    groups : callable
        Returns the control groups of a process of this host.
    """

    def __init__(
        self,
        engine: EngineLike,
        *,
        place: PlaceSpec,
        name: str,
        workspace: str,
        labels: Mapping[str, str],
        taken: Use = Use(),
        gpus: Callable[[], Sequence[Gpu]] = nvidia_gpus,
        groups: Callable[[int], str] = groups_of,
    ) -> None:
        self._engine = engine
        self._place = place
        self._name = name
        self._workspace = workspace
        self._labels = labels
        self._taken = taken
        self._gpus = gpus
        self._groups = groups

    def discover(self) -> Sequence[Node]:
        """Return the engine as one node, as it is now.

        Raises
        ------
        PlaceUnavailable
            If the engine does not answer.
        InvalidSpec
            If the place's capacity makes no sense.
        """
        gpus = self._present()
        used = sum((use_of(document["HostConfig"]) for document in self._engine.foreign(self._workspace)), self._taken)
        if any(gpu.pids for gpu in gpus):
            ours = {one.id for one in self._engine.listing(self._workspace, max_age_s=1.0).values()}
            used += Use(gpu_ids=busy_gpus(gpus, ours, self._groups))
        return (self._node(used, gpus),)

    def whole(self) -> Sequence[Node]:
        """Return the engine as one node, as it is when nobody but us uses its host."""
        return (self._node(self._taken, self._present()),)

    def _present(self) -> Sequence[Gpu]:
        return self._gpus() if self._place.on_this_host and _gives_gpus(self._place, self._engine.facts()) else ()

    def _node(self, used: Use, gpus: Sequence[Gpu]) -> Node:
        node = node_of(self._place, self._name, self._engine.facts(), used, gpus)
        return replace(node, labels={**node.labels, **self._labels})
