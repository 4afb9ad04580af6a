"""The words of allocation: nodes, demands, grants and the reasons for every wait."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

from airflow_dla.specs.resources import Request, amounts, mig_profile, profile
from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import amount, boolean, integer, mapping_of, natural, number, optional, positive, remark, sequence_of, text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Node(Spec):
    """A machine, or a part of one, that jobs can be granted shares of.

    Parameters
    ----------
    name : str
        Unique in the workspace.
    place : str
        Name of the place it belongs to.
    capacity : mapping of resource to float
        What may be granted, in the units of `RESOURCES`.
    labels : mapping of str
        For example ``{"gpu_type": "h200"}``.
    cpu_ids, gpu_ids : tuple
        Ids that are handed out; empty where the place hands out none. No more than these are granted.
    mig_ids : mapping of profile to tuple
        Ids of the slices that are handed out, by profile: ``{"1g.10gb": ("MIG-…", …)}`` for the
        resource ``mig-1g.10gb``.

    Examples
    --------
    >>> node = Node(name="n1", capacity={"gpu": 8.0, "mig-1g.10gb": 7.0}, gpu_ids=("0", "1"))
    >>> node.most("gpu"), node.most("mig-1g.10gb"), node.most("disk")
    (2.0, 7.0, 0.0)
    """

    called: ClassVar[str] = "node"

    name: str = spec_field(text)
    place: str = spec_field(text, default="local")
    capacity: Mapping[str, float] = spec_field(amounts, factory=dict)
    labels: Mapping[str, str] = spec_field(mapping_of(text), factory=dict)
    cpu_ids: tuple[int, ...] = spec_field(sequence_of(natural), default=())
    gpu_ids: tuple[str, ...] = spec_field(sequence_of(text), default=())
    mig_ids: Mapping[str, tuple[str, ...]] = spec_field(mapping_of(sequence_of(text), key=profile), factory=dict)

    def most(self, resource: str) -> float:
        """Return how much of a resource can be granted at all: its capacity, of devices with ids no more than there are ids."""
        capacity, ids = self.capacity.get(resource, 0.0), self.ids_of(resource)
        return min(capacity, float(len(ids))) if ids else capacity

    def ids_of(self, resource: str) -> tuple[str, ...]:
        """Return the ids that are handed out with a resource: those of its GPUs or of its slices of one profile."""
        if resource == "gpu":
            return self.gpu_ids
        return self.mig_ids.get(mig_profile(resource) or "", ()) if self.mig_ids else ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Demand(Spec):
    """A request that waits, as an allocation round sees it.

    Parameters
    ----------
    id : str
        The grant gets the same id.
    request : `Request`
    place : str
        Name of a place, or ``"any"``.
    node : str or None
        The only node that will do, for local jobs followed by this host.
    team : str
    priority : int
        Larger goes first.
    weight : float, > 0
        Share when a shortage is split.
    created_at : float
        When it was first asked for, seconds since the epoch, the database's: a job that was
        preempted keeps its age.
    preemptible : bool
        Whether its job may be stopped at a checkpoint for something that matters more.
    gang : str or None
        Demands of the same gang are granted together or not at all.
    gang_size : int, >= 1
        How many demands the gang has; none is granted before all are here.
    deadline : float or None
        When its job should have ended, seconds since the epoch.
    run_s : float or None
        How long it is expected to hold its grant, s; None when nothing is known.
    """

    called: ClassVar[str] = "demand"

    id: str = spec_field(text)
    request: Request = spec_field(Request.from_mapping)
    place: str = spec_field(text, default="any")
    node: str | None = spec_field(optional(text), default=None)
    team: str = spec_field(text, default="default")
    priority: int = spec_field(integer, default=0)
    weight: float = spec_field(positive(number), default=1.0)
    created_at: float = spec_field(number, default=0.0)
    preemptible: bool = spec_field(boolean, default=False)
    gang: str | None = spec_field(optional(text), default=None)
    gang_size: int = spec_field(positive(integer), default=1)
    deadline: float | None = spec_field(optional(number), default=None)
    run_s: float | None = spec_field(optional(positive(number)), default=None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Grant(Spec):
    """What a request got, on one node.

    Parameters
    ----------
    id : str
        The request's.
    node : str
    amounts : mapping of resource to float
        In the units of `RESOURCES`; for the whole grant, never per GPU.
    cpu_ids, gpu_ids : tuple
        Ids handed out, of GPUs or of slices of them; a CPU id may be shared, a whole GPU or a slice never.
    reason : str
        Why this much and here, one sentence.
    """

    called: ClassVar[str] = "grant"

    id: str = spec_field(text)
    node: str = spec_field(text)
    amounts: Mapping[str, float] = spec_field(amounts, factory=dict)
    cpu_ids: tuple[int, ...] = spec_field(sequence_of(natural), default=())
    gpu_ids: tuple[str, ...] = spec_field(sequence_of(text), default=())
    reason: str = spec_field(remark, default="")

    def text(self) -> str:
        """Write the amounts for a person: ``2 cpu, 1 GiB memory on laptop``."""
        return f"{describe_amounts(self.amounts)} on {self.node}"


# What `Grant`'s own constructor calls as well, but looks up by name for every field.
_PUT_ID, _PUT_NODE, _PUT_AMOUNTS, _PUT_CPUS, _PUT_GPUS, _PUT_REASON = (
    Grant.__dict__[field.name].__set__ for field in dataclasses.fields(Grant)
)


def make_grant(
    *, name: str, node: str, amounts: Mapping[str, float], cpu_ids: tuple[int, ...], gpu_ids: tuple[str, ...], reason: str
) -> Grant:
    """Make a grant as `Grant` does, in a third of the time: a round of allocation makes one for every job.

    Examples
    --------
    >>> slower = Grant(id="a", node="laptop", amounts={"cpu": 2.0}, cpu_ids=(0, 1))
    >>> make_grant(name="a", node="laptop", amounts={"cpu": 2.0}, cpu_ids=(0, 1), gpu_ids=(), reason="") == slower
    True
    """
    made: Grant = object.__new__(Grant)
    _PUT_ID(made, name)
    _PUT_NODE(made, node)
    _PUT_AMOUNTS(made, amounts)
    _PUT_CPUS(made, cpu_ids)
    _PUT_GPUS(made, gpu_ids)
    _PUT_REASON(made, reason)
    return made


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A grant that is held, with the demand it answers and what its holder was told to make of it.

    Parameters
    ----------
    demand : `Demand`
    grant : `Grant`
        What its holder may use now.
    since : float
        When it was granted, seconds since the epoch, the database's.
    target : `Grant` or None
        What its holder was told to change it to and has not confirmed yet.
    stopping : bool
        Its end is wanted: what it holds comes back soon.
    rigid : bool
        Where it runs, it cannot be changed: a resize was refused.
    """

    demand: Demand
    grant: Grant
    since: float = 0.0
    target: Grant | None = None
    stopping: bool = False
    rigid: bool = False

    def charged(self) -> Grant:
        """Return what its node must account for: the larger of what is held and what is promised.

        A shrink frees nothing before it is confirmed, a growth is taken at once.
        """
        if self.target is None:
            return self.grant
        most = {
            resource: max(self.grant.amounts.get(resource, 0.0), self.target.amounts.get(resource, 0.0))
            for resource in {**self.grant.amounts, **self.target.amounts}
        }
        return dataclasses.replace(self.grant, amounts=most)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happens, or is done, so that a demand starts.

    Parameters
    ----------
    kind : str
        What happens by itself: ``served`` (those before it are), ``freed`` (of a node),
        ``returned`` (by teams, so that its own may have it), ``refilled`` (a budget). What
        somebody does: ``lower`` its minimum, ``capacity`` of a node raised, ``node`` added,
        ``quota``, ``borrow``, ``lend``, ``guarantee`` or ``budget`` of a team raised,
        ``priority`` or ``run`` of the demand set.
    amounts : mapping of resource to float
        How much, for ``lower`` and ``guarantee`` to what.
    node, team : str or None
        Whose.
    value : float
        Tokens, a priority, or seconds.
    """

    kind: str
    amounts: Mapping[str, float] = dataclasses.field(default_factory=dict)
    node: str | None = None
    team: str | None = None
    value: float = 0.0


class Unblock(str):
    """What would start a demand: a sentence, and beside it the steps in numbers, for a program to take.

    Parameters
    ----------
    sentence : str
    steps : tuple of `Step`
        All of them together start the demand.

    Examples
    --------
    >>> found = Unblock("add 2 gpu to n1", (Step(kind="capacity", amounts={"gpu": 2.0}, node="n1"),))
    >>> found, found.steps[0].node
    ('add 2 gpu to n1', 'n1')
    """

    __slots__ = ("steps",)

    steps: tuple[Step, ...]

    def __new__(cls, sentence: str, steps: tuple[Step, ...]) -> Self:
        """Make a sentence that knows its steps."""
        made = super().__new__(cls, sentence)
        made.steps = steps
        return made


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reason(Spec):
    """Why a request waits, or got less than it wanted.

    Parameters
    ----------
    binding : str
        The resource that is short, or another rule's name (``"node"``, ``"place"``, ``"labels"``, ``"gang"``).
    node : str or None
        The node where least is missing.
    shortfall : float
        How much is missing there, in the resource's unit.
    price : float
        Shadow price of the binding resource: what one more unit would be worth.
    position : int
        Place in the queue, 1 is next; 0 for one that runs with less.
    expected_start : float or None
        Forecast, seconds since the epoch: earlier is as likely as later; None when nothing is known.
    start_low, start_high : float or None
        Between them it starts with a probability of 80 %.
    unblock : tuple of str
        What would help, best first; made by a plan each is an `Unblock`, which has it in numbers too.
    text : str
        All of it as one sentence.
    never : bool
        No node is large enough, however long it waits.
    """

    called: ClassVar[str] = "reason"

    binding: str = spec_field(text)
    node: str | None = spec_field(optional(text), default=None)
    shortfall: float = spec_field(amount, default=0.0)
    price: float = spec_field(number, default=0.0)
    position: int = spec_field(natural, default=0)
    expected_start: float | None = spec_field(optional(number), default=None)
    start_low: float | None = spec_field(optional(number), default=None)
    start_high: float | None = spec_field(optional(number), default=None)
    unblock: tuple[str, ...] = spec_field(sequence_of(text), default=())
    never: bool = spec_field(boolean, default=False)
    text: str = spec_field(text)


def describe_amounts(amounts: Mapping[str, float]) -> str:
    """Write amounts for a person.

    Examples
    --------
    >>> describe_amounts({"cpu": 2.0, "memory": 0.5})
    '2 cpu, 0.5 GiB memory'
    """
    units = {"gpu_memory": " GiB", "memory": " GiB", "shm": " GiB", "disk": " GiB", "network": " MB/s"}
    return ", ".join(f"{value:g}{units.get(resource, '')} {resource}" for resource, value in amounts.items())
