"""An allocation problem as arrays: what is asked for, and what there is.

Objects are read once, here; every decision below works on whole columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from airflow_dla.allocation.forecast.holds import Hold
from airflow_dla.allocation.gangs import Gangs, read_gangs
from airflow_dla.allocation.problem import Policy
from airflow_dla.specs import RESOURCES, Demand, Grant, Node, Request

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

#: What counts as equal, relative to a node's capacity: 0.1 + 0.2 fits into 0.3.
RELATIVE = 1e-9

_LIGHTEST = 1e-9
_Key = TypeVar("_Key")


class Kind(NamedTuple):
    """Which nodes will do: one for each set of demands that may use, and rather use, the same.

    Parameters
    ----------
    place : str
        Name of a place, or ``"any"``.
    node, gpu_type : str or None
        The only one that will do.
    labels, prefer : tuple of (str, str)
        What a node must carry, and what it should.
    """

    place: str
    node: str | None
    gpu_type: str | None
    labels: tuple[tuple[str, str], ...] = ()
    prefer: tuple[tuple[str, str], ...] = ()

    def allows(self, node: Node) -> bool:
        """Whether a node will do."""
        here = self.place in {"any", node.place} and self.node in {None, node.name}
        typed = here and self.gpu_type in {None, node.labels.get("gpu_type")}
        return typed and all(node.labels.get(label) == value for label, value in self.labels)

    def matches(self, node: Node) -> int:
        """How many of the labels that are preferred a node carries."""
        return sum(node.labels.get(label) == value for label, value in self.prefer)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: n demands, R resources.

    Parameters
    ----------
    resources : tuple of str
        Names of the R columns: what any demand names, in the order of `RESOURCES`, slices of GPUs last.
    minimum, wanted : float array, shape (n, R)
        In the resource's unit; per-GPU values are multiplied out for the fewest and the most GPUs.
    rate_low, rate_high : float array, shape (n, R)
        Units per GPU where the amount changes with the number of GPUs granted, else 0.
    coupled : bool array, shape (n,)
        Whether any rate is set.
    whole : bool array, shape (n,)
        Whether only whole GPUs will do: both ends of the range are whole.
    least : float array, shape (n,)
        GPUs that per-GPU values count at least; see `gpu_multiple`.
    weight : float array, shape (n,)
        Share of a shortage, > 0.
    priority, created, rank : array, shape (n,)
        Larger priority first, then the oldest; `rank` is the place of the id in the alphabet.
    aged : int array, shape (n,)
        By how much waiting has raised the priority; see `waited`.
    age : float array, shape (n,)
        Seconds since each was created.
    ends : float array, shape (n,)
        When each would end if it started now, seconds since the epoch; infinite when not known.
    kind : int array, shape (n,)
        Row of `Offered.allowed`.
    kinds : tuple of `Kind`
    team : int array, shape (n,)
        Index into `teams`.
    teams : tuple of str
    gangs : `Gangs` or None
        Which demands are granted together; None when all are on their own.
    now : float
        Seconds since the epoch.
    """

    resources: tuple[str, ...]
    minimum: Floats
    wanted: Floats
    rate_low: Floats
    rate_high: Floats
    coupled: Bools
    whole: Bools
    least: Floats
    weight: Floats
    priority: Ints
    created: Floats
    rank: Ints
    aged: Ints
    age: Floats
    ends: Floats
    kind: Ints
    kinds: tuple[Kind, ...]
    team: Ints
    teams: tuple[str, ...]
    gangs: Gangs | None = None
    now: float = 0.0

    @property
    def gpu(self) -> int | None:
        """Column of the GPUs, None when nobody asks for one."""
        return self.resources.index("gpu") if "gpu" in self.resources else None

    @property
    def slices(self) -> tuple[int, ...]:
        """Columns of slices of GPUs, which are whole and are handed out by id."""
        return tuple(column for column, resource in enumerate(self.resources) if resource not in RESOURCES)

    def __len__(self) -> int:
        return len(self.weight)


@dataclass(frozen=True, slots=True)
class Leaving:
    """What L live grants will give back.

    Parameters
    ----------
    node : int array, shape (L,)
    end : float array, shape (L,)
        Seconds since the epoch; infinite when not known.
    amounts : float array, shape (L, R)
    expected_s : float array, shape (L,)
        How long each was expected to last in all; infinite when not known.
    elapsed_s : float array, shape (L,)
        How long it has lasted.
    """

    node: Ints
    end: Floats
    amounts: Floats
    expected_s: Floats
    elapsed_s: Floats


@dataclass(frozen=True, slots=True)
class Awaited:
    """What H expected jobs will need.

    Parameters
    ----------
    need : float array, shape (H, R)
        Of the resources that demands name.
    at, end : float array, shape (H,)
        From when until when, seconds since the epoch.
    lead : float array, shape (H,)
        How far ahead that begins, s.
    spare : float array, shape (H,)
        A demand that goes on no longer than so many seconds beyond `at` may pass: to refuse it would cost more.
    priority : int array, shape (H,)
    allowed : bool array, shape (H, G)
        Whether the node will do, and could hold all that is needed.
    """

    need: Floats
    at: Floats
    end: Floats
    lead: Floats
    spare: Floats
    priority: Ints
    allowed: Bools


@dataclass(frozen=True, slots=True)
class Offered:
    """What there is: G nodes, R resources.

    Parameters
    ----------
    names : tuple of str
    capacity : float array, shape (G, R)
        0 where a node does not name a resource: what is not offered cannot be granted.
    free : float array, shape (G, R)
        Capacity less reserves and live grants, >= 0 but for rounding.
    slack : float array, shape (G, R)
        Excess that is taken for rounding.
    allowed : bool array, shape (K, G)
        Whether a demand of each of K kinds may use the node.
    matches : int array, shape (K, G), or None
        How many of the labels that it prefers the node carries; None where nobody prefers any.
    devices : dict of int to list of float
        Free share of each GPU, by node; only nodes that hand out GPU ids.
    quota : float array, shape (T, R)
        What each of T teams may still be granted; infinite without a quota.
    held : float array, shape (L, R)
        What live grants have on these nodes.
    leaving : `Leaving` or None
        Read only where the policy gives the ends of live grants.
    awaited : `Awaited` or None
        Read only where the policy holds anything for expected jobs.
    """

    names: tuple[str, ...]
    capacity: Floats
    free: Floats
    slack: Floats
    allowed: Bools
    devices: Mapping[int, list[float]] = field(default_factory=dict)
    quota: Floats = field(default_factory=lambda: np.empty((0, 0)))
    held: Floats = field(default_factory=lambda: np.empty((0, 0)))
    leaving: Leaving | None = None
    matches: Ints | None = None
    awaited: Awaited | None = None


def gpu_multiple(gpus: Floats, least: Floats) -> Floats:
    """Return what per-GPU values are multiplied by.

    The GPUs granted; but a job that may run without any (``gpu: 0-4``) and got none is
    still granted what one GPU would have had: with 0 CPUs it could not run at all.
    """
    return np.maximum(gpus, least)


def read_demands(pending: Sequence[Demand], policy: Policy, now: float = 0.0) -> Asked:
    """Turn demands into arrays; `now` matters where the policy lets demands age."""
    requests = [demand.request for demand in pending]
    known, rows, columns = _columns(requests)
    ranges = [found for request in requests for found in request.amounts.values()]
    used = np.unique(columns)
    shape = (len(pending), len(used))
    low, high, flagged = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
    at = (rows, np.searchsorted(used, columns))
    low[at] = np.fromiter(map(attrgetter("minimum"), ranges), dtype=float, count=len(ranges))
    high[at] = np.fromiter(map(attrgetter("wanted"), ranges), dtype=float, count=len(ranges))
    flagged[at] = np.fromiter(map(attrgetter("per_gpu"), ranges), dtype=bool, count=len(ranges))
    names = tuple(known[column] for column in used)
    return _asked(pending, policy, names, now=now, low=low, high=high, flagged=flagged)


def _columns(requests: Sequence[Request]) -> tuple[list[str], Ints, Ints]:
    """Return the names of all resources, slices of GPUs that somebody asks for last, and row and column of every amount."""
    named = list(chain.from_iterable([request.amounts for request in requests]))
    known = [*RESOURCES, *sorted(set(named).difference(RESOURCES))]
    column_of = {resource: column for column, resource in enumerate(known)}
    rows = np.repeat(np.arange(len(requests)), [len(request.amounts) for request in requests])
    return known, rows, np.fromiter(map(column_of.__getitem__, named), dtype=np.intp, count=len(named))


def _asked(
    pending: Sequence[Demand], policy: Policy, names: tuple[str, ...], *, now: float, low: Floats, high: Floats, flagged: Bools
) -> Asked:
    fewest, most = np.zeros(len(pending)), np.zeros(len(pending))
    if "gpu" in names:
        fewest, most = low[:, names.index("gpu")], high[:, names.index("gpu")]
    least = np.where(most > 0, np.minimum(most, 1.0), 1.0)
    below, above = gpu_multiple(fewest, least), gpu_multiple(most, least)
    rated = flagged & (above > below)[:, None]
    kinds, kind = _kinds(pending)
    teams, team = _index([demand.team for demand in pending])
    created = np.array([demand.created_at for demand in pending], dtype=float)
    return Asked(
        resources=names,
        minimum=np.where(flagged, low * below[:, None], low),
        wanted=np.where(flagged, high * above[:, None], high),
        rate_low=np.where(rated, low, 0.0),
        rate_high=np.where(rated, high, 0.0),
        coupled=np.asarray(rated.any(axis=1)),
        whole=(fewest == np.floor(fewest)) & (most == np.floor(most)),
        least=least,
        weight=_weights(pending, policy),
        priority=np.array([demand.priority for demand in pending], dtype=np.intp),
        created=created,
        rank=_ranks([demand.id for demand in pending]),
        aged=raised(pending, created, now, policy),
        age=np.maximum(0.0, now - created),
        ends=_ends(pending, policy, now),
        kind=kind,
        kinds=kinds,
        team=team,
        teams=teams,
        gangs=read_gangs(pending, policy.started),
        now=now,
    )


def _kinds(pending: Sequence[Demand]) -> tuple[tuple[Kind, ...], Ints]:
    requests = [demand.request for demand in pending]
    keys = [(demand.place, demand.node, request.gpu_type) for demand, request in zip(pending, requests, strict=True)]
    # Most ask for no labels, and to sort those that are not there takes as long as all the rest.
    if not (any(map(attrgetter("labels"), requests)) or any(map(attrgetter("prefer"), requests))):
        found, kind = _index(keys)
        return tuple(Kind(*key) for key in found), kind
    labels = [(tuple(sorted(request.labels.items())), tuple(sorted(request.prefer.items()))) for request in requests]
    return _index([Kind(*key, *own) for key, own in zip(keys, labels, strict=True)])


def _ends(pending: Sequence[Demand], policy: Policy, now: float) -> Floats:
    own = np.array([np.inf if demand.run_s is None else demand.run_s for demand in pending])
    if policy.runs:
        own = np.array([policy.runs.get(demand.id, run_s) for demand, run_s in zip(pending, own.tolist(), strict=True)])
    return now + own


def raised(pending: Sequence[Demand], created: Floats, now: float, policy: Policy) -> Ints:
    """Return what waiting adds to priorities: to those who reclaim what was lent so much that they go first."""
    aged = waited(created, now, policy.ageing_s)
    if policy.reclaims:
        first = np.array([demand.id in policy.reclaims for demand in pending], dtype=bool)
        standing = aged + np.array([demand.priority for demand in pending], dtype=np.intp)
        if first.any():
            aged[first] += standing.max() - standing[first].min() + 1
    return aged


def waited(created: Floats, now: float, ageing_s: float | None) -> Ints:
    """Return by how much waiting raises a priority: by one for every `ageing_s` seconds.

    However low a priority is, after long enough it goes before every new request, so
    nothing starves. Without a number nothing ages.

    Examples
    --------
    >>> waited(np.array([0.0, 500.0, 900.0]), 1000.0, 300.0).tolist()
    [3, 1, 0]
    """
    if ageing_s is None:
        return np.zeros(len(created), dtype=np.intp)
    return np.floor(np.maximum(0.0, now - created) / ageing_s).astype(np.intp)


def _index(keys: list[_Key]) -> tuple[tuple[_Key, ...], Ints]:
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return tuple(places), np.fromiter(map(places.__getitem__, keys), dtype=np.intp, count=len(keys))


def _weights(pending: Sequence[Demand], policy: Policy) -> Floats:
    weight: Floats = np.array([demand.weight for demand in pending], dtype=float)
    if policy.weights:
        named = policy.weights
        weight *= np.array([named.get(demand.id, named.get(demand.team, 1.0)) for demand in pending])
    weight[weight < _LIGHTEST] = _LIGHTEST
    return weight


def _ranks(ids: list[str]) -> Ints:
    ranks = np.empty(len(ids), dtype=np.intp)
    ranks[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return ranks


def read_cluster(cluster: Sequence[Node], live: Sequence[Grant], asked: Asked, policy: Policy, now: float = 0.0) -> Offered:
    """Turn nodes, less what is granted and held back, into arrays; `now` matters where the policy gives ends."""
    names = tuple(node.name for node in cluster)
    shape = (len(cluster), len(asked.resources))
    capacity = np.array([[node.capacity.get(name, 0.0) for name in asked.resources] for node in cluster]).reshape(shape)
    for column in asked.slices if asked.gpu is None else (asked.gpu, *asked.slices):
        capacity[:, column] = [node.most(asked.resources[column]) for node in cluster]
    reserved = np.array([policy.reserves.get(name, 0.0) for name in asked.resources])
    row_of = {name: row for row, name in enumerate(names)}
    here = [grant for grant in live if grant.node in row_of]
    held = np.array([[grant.amounts.get(name, 0.0) for name in asked.resources] for grant in here]).reshape(len(here), len(asked.resources))
    charged = np.zeros(shape)
    for grant, amounts in zip(here, held, strict=True):
        charged[row_of[grant.node]] += amounts
    slack = capacity * RELATIVE
    free = np.maximum(capacity - reserved - charged, -slack)
    for column in asked.slices:
        whole = np.floor(np.maximum(free[:, column], 0.0) + RELATIVE)
        free[:, column] = np.minimum(whole, _idle_slices(cluster, live, asked.resources[column]))
    return Offered(
        names=names,
        capacity=capacity,
        free=free,
        slack=slack,
        allowed=_of_each_kind(asked, cluster, Kind.allows).astype(bool),
        matches=_of_each_kind(asked, cluster, Kind.matches) if any(kind.prefer for kind in asked.kinds) else None,
        devices=_devices(cluster, live),
        quota=_quota(asked, policy),
        held=held,
        leaving=None if policy.ends is None else _leaving(row_of, live, asked, policy, now),
        awaited=_awaited(cluster, asked, policy.holds) if policy.holds else None,
    )


def _awaited(cluster: Sequence[Node], asked: Asked, holds: Sequence[Hold]) -> Awaited:
    need = np.array([[hold.amounts.get(name, 0.0) for name in asked.resources] for hold in holds])
    return Awaited(
        need=need.reshape(len(holds), len(asked.resources)),
        at=np.array([hold.at for hold in holds]),
        end=np.array([hold.at + hold.run_s for hold in holds]),
        lead=np.array([hold.lead_s for hold in holds]),
        spare=np.array([hold.lead_s / hold.patience for hold in holds]),
        priority=np.array([hold.priority for hold in holds], dtype=np.intp),
        allowed=np.array([[_may_run(hold, node) for node in cluster] for hold in holds], dtype=bool).reshape(len(holds), len(cluster)),
    )


def _may_run(hold: Hold, node: Node) -> bool:
    here = hold.place in {"any", node.place} and hold.gpu_type in {None, node.labels.get("gpu_type")}
    return here and all(amount <= node.capacity.get(name, 0.0) * (1 + RELATIVE) for name, amount in hold.amounts.items())


def _leaving(row_of: Mapping[str, int], live: Sequence[Grant], asked: Asked, policy: Policy, now: float) -> Leaving:
    here = sorted((grant for grant in live if grant.node in row_of), key=lambda grant: grant.id)
    amounts = [[grant.amounts.get(name, 0.0) for name in asked.resources] for grant in here]
    ends = policy.ends or {}
    end = np.array([ends.get(grant.id, np.inf) for grant in here], dtype=float)
    since, expected = np.full(len(here), now), end - now
    for row, grant in enumerate(here):
        if grant.id in policy.begun:
            since[row], expected[row] = policy.begun[grant.id]
    return Leaving(
        node=np.array([row_of[grant.node] for grant in here], dtype=np.intp),
        end=end,
        amounts=np.array(amounts, dtype=float).reshape(len(here), len(asked.resources)),
        expected_s=expected,
        elapsed_s=np.maximum(0.0, now - since),
    )


def _of_each_kind(asked: Asked, cluster: Sequence[Node], ask: Callable[[Kind, Node], int]) -> Ints:
    found = [[ask(kind, node) for node in cluster] for kind in asked.kinds]
    return np.array(found, dtype=np.intp).reshape(len(asked.kinds), len(cluster))


def _idle_slices(cluster: Sequence[Node], live: Sequence[Grant], resource: str) -> Floats:
    """Return how many slices of each node are held by nobody; infinite where a node hands out no ids."""
    return np.array([len(idle_slices(node, live, resource)) if node.ids_of(resource) else np.inf for node in cluster], dtype=float)


def idle_slices(node: Node, live: Sequence[Grant], resource: str) -> list[str]:
    """Return the ids of slices of a node that no live grant holds, in the order of the node."""
    held = {slice_ for grant in live if grant.node == node.name for slice_ in grant.gpu_ids}
    return [slice_ for slice_ in node.ids_of(resource) if slice_ not in held]


def _devices(cluster: Sequence[Node], live: Sequence[Grant]) -> dict[int, list[float]]:
    free: dict[int, list[float]] = {}
    for row, node in enumerate(cluster):
        if node.gpu_ids:
            used = charged_gpus(node, live)
            free[row] = [max(0.0, 1.0 - used[gpu]) for gpu in node.gpu_ids]
    return free


def charged_gpus(node: Node, live: Sequence[Grant]) -> dict[str, float]:
    """Return how much of each of a node's GPUs live grants hold, 1 for a whole one."""
    used = dict.fromkeys(node.gpu_ids, 0.0)
    for grant in live:
        share = min(1.0, grant.amounts.get("gpu", 1.0))
        for gpu in grant.gpu_ids if grant.node == node.name else ():
            used[gpu] = used.get(gpu, 0.0) + share
    return used


def _quota(asked: Asked, policy: Policy) -> Floats:
    quota = np.full((len(asked.teams), len(asked.resources)), np.inf)
    for row, team in enumerate(asked.teams):
        for resource, most in policy.quotas.get(team, {}).items():
            if resource in asked.resources:
                used = policy.used.get(team, {}).get(resource, 0.0)
                quota[row, asked.resources.index(resource)] = max(0.0, most - used)
    return quota
