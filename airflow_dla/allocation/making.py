"""For whom room is made, and how: in the order of admission, and only after asking what the next plan would decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from airflow_dla.allocation.hoping import hopeful
from airflow_dla.allocation.lending import Lending
from airflow_dla.allocation.living import Living, changes, is_elastic, read_living, settled, summed
from airflow_dla.allocation.outlook import Outlook, Owned, View
from airflow_dla.allocation.problem import Plan, Policy
from airflow_dla.allocation.room import Claimant, Room, Rooms
from airflow_dla.allocation.table import Ints, waited
from airflow_dla.specs import Demand, Grant, Held, Node

#: For how many demands room is looked for in one round, and for how many it is made.
_TRIES, _MOST = 64, 32


class Live:
    """What is charged now and what stays once all that was told is done; what was just granted is in both.

    Parameters
    ----------
    held : sequence of `Held`
    pending : sequence of `Demand`
    answer : `Plan`

    Attributes
    ----------
    leaving, stays, shrinking : list of `Held`
        Those that stop, the others by id, and those of them that were told to give something back.
    charged, settled : list of owned grants
    waits : list of `Demand`
        Those that wait and could ever start.
    """

    def __init__(self, held: Sequence[Held], pending: Sequence[Demand], answer: Plan) -> None:
        self.fresh = [(demand, answer.grants[demand.id]) for demand in pending if demand.id in answer.grants]
        fresh: list[Owned] = [(demand.team, grant) for demand, grant in self.fresh]
        self.leaving = sorted((one for one in held if one.stopping), key=lambda one: one.grant.id)
        self.stays = sorted((one for one in held if not one.stopping), key=lambda one: one.grant.id)
        self.shrinking = [one for one in self.stays if one.target is not None and one.charged().amounts != one.target.amounts]
        self.charged: list[Owned] = [(one.demand.team, one.charged()) for one in held] + fresh
        self.settled: list[Owned] = [(one.demand.team, settled(one)) for one in self.stays] + fresh
        self.waits = [demand for demand in pending if demand.id in answer.waiting and not answer.waiting[demand.id].never]

    @property
    def is_coming(self) -> bool:
        """Whether anything is becoming free."""
        return bool(self.leaving or self.shrinking)


@dataclass(frozen=True, slots=True)
class Made:
    """Room that is made, and who waits for it.

    Parameters
    ----------
    rooms : tuple of `Room`
        In the order of admission.
    resources : tuple of str
        Columns of what rooms shrink.
    held : tuple of `Held`
        Rows of what they stop and shrink.
    served : mapping of demand to str
        Nodes of those for whom what is already becoming free will do.
    again_at : float or None
        When time alone may change the answer.
    """

    rooms: tuple[Room, ...] = ()
    resources: tuple[str, ...] = ()
    held: tuple[Held, ...] = ()
    served: tuple[tuple[str, str], ...] = ()
    again_at: float | None = None

    def stopped(self) -> Iterator[tuple[Held, Room]]:
        """Yield each job that stops, and what for."""
        yield from ((self.held[row], room) for room in self.rooms for row in room.victims)


def make_room(cluster: Sequence[Node], live: Live, policy: Policy, now: float) -> Made:
    """Choose for whom room is made, and how.

    Parameters
    ----------
    cluster : sequence of `Node`
    live : `Live`
    policy : `Policy`
    now : float
    """
    if not live.waits or not (live.is_coming or _may_help(live, policy, now)):
        return Made()
    ends = {**(policy.ends or {}), **{grant.id: now + demand.run_s for demand, grant in live.fresh if demand.run_s is not None}}
    outlook = Outlook(cluster, live.waits, policy if policy.ends is None else replace(policy, ends=ends), now)
    making = _Making(outlook, live, policy, now)
    return making.made()


def _may_help(live: Live, policy: Policy, now: float) -> bool:
    """Return whether any live grant could make room for anybody at all: cheap, and never wrongly no."""
    useful = [one for one in live.stays if one.demand.preemptible or (changes(one) and is_elastic(one.demand))]
    if not useful or policy.reclaims:
        return bool(useful)
    oldest = np.array([min(demand.created_at for demand in live.waits), *(one.demand.created_at for one in useful)])
    aged = waited(oldest, now, policy.ageing_s).tolist()
    highest = max(demand.priority for demand in live.waits) + aged[0]
    standings = ((one, one.demand.priority + age) for one, age in zip(useful, aged[1:], strict=True))
    return any(standing < highest or (standing == highest and is_elastic(one.demand)) for one, standing in standings)


class _Making:
    """The state of one search.

    Parameters
    ----------
    outlook : `Outlook`
        Of those that wait.
    live : `Live`
    policy : `Policy`
    now : float
    """

    def __init__(self, outlook: Outlook, live: Live, policy: Policy, now: float) -> None:
        self.outlook, self.live, self.policy, self.now = outlook, live, policy, now
        asked = outlook.asked
        self.living: Living = read_living(outlook.cluster, live.stays, asked.resources, now=now, ageing_s=policy.ageing_s)
        self.standing: Ints = asked.priority + waited(asked.created, now, policy.ageing_s)
        self.reclaims = np.array([demand.id in policy.reclaims for demand in outlook.pending], dtype=bool)
        self.again_at: float | None = None

    def made(self) -> Made:
        """Return the rooms that the next plan gives to those they are made for."""
        offered = self.outlook.offered(self.live.settled)
        mature = self.now - self.living.since >= self.policy.min_run_s
        rows = hopeful(self.outlook.asked, offered, self.living, standing=self.standing, reclaims=self.reclaims, mature=mature)
        self._when_young()
        if not (len(rows) or self.live.is_coming):
            return Made(again_at=self.again_at)
        view = self.outlook.given(self.live.settled)
        rooms = self._confirmed(self._chosen(view, rows), view)
        return Made(
            rooms=tuple(room for room in rooms if room.victims or room.shrunk),
            resources=self.outlook.asked.resources,
            held=self.living.held,
            served=self._served(view),
            again_at=self.again_at,
        )

    def _served(self, view: View) -> tuple[tuple[str, str], ...]:
        rows = np.flatnonzero(view.solution.where >= 0).tolist()
        return tuple((self.outlook.pending[row].id, self.outlook.cluster[int(view.solution.where[row])].name) for row in rows)

    def _when_young(self) -> None:
        """Look again when a job may be preempted that has just begun."""
        mature = self.living.since[self.living.preemptible] + self.policy.min_run_s
        self._again(mature[mature > self.now].min(initial=np.inf))

    def _again(self, at: float) -> None:
        if np.isfinite(at):
            self.again_at = float(at) if self.again_at is None else min(self.again_at, float(at))

    def _chosen(self, view: View, rows: Ints) -> list[Room]:
        """Look for room in the order of admission, whole gangs at once."""
        lending = Lending(self.policy.teams, summed((team, grant.amounts) for team, grant in self.live.settled))
        state = Rooms(self.outlook.cluster, self.living, view, self.policy, lending, now=self.now)
        hoping = set(rows.tolist()) - set(view.solution.admission.barred)
        found: list[Room] = []
        failed: set[object] = set()
        for row in self._turns(view, hoping):
            gang = self._gang(row, view)
            kind = self._kind(row) if len(gang) == 1 else None
            if kind in failed or len(found) >= _MOST:
                continue
            trial = state if len(gang) == 1 else state.apart()
            rooms = self._rooms(trial, gang, view, moved=bool(found))
            if rooms is None:
                failed.add(kind)
                continue
            state = trial
            found += rooms
            failed.clear()
        return found

    def _turns(self, view: View, hoping: set[int]) -> Iterator[int]:
        seen: set[str] = set()
        turns = [row for row in view.solution.order.tolist() if row in hoping and not view.served(row)]
        for row in turns[:_TRIES]:
            gang = self.outlook.pending[row].gang
            if gang is None or gang not in seen:
                yield row
            seen |= {gang} if gang is not None else set()

    def _gang(self, row: int, view: View) -> list[int]:
        gang = self.outlook.pending[row].gang
        if gang is None:
            return [row]
        return [one for one in view.solution.order.tolist() if self.outlook.pending[one].gang == gang and not view.served(one)]

    def _kind(self, row: int) -> object:
        """Return what demands have in common for which there is room alike."""
        asked = self.outlook.asked
        return int(asked.kind[row]), asked.minimum[row].tobytes(), int(self.standing[row]), int(asked.team[row]), bool(self.reclaims[row])

    def _rooms(self, state: Rooms, gang: list[int], view: View, *, moved: bool) -> list[Room] | None:
        """Find room for all of a gang, or for one demand; None when there is none, or none is needed."""
        kept = view.solution.kept
        elsewhere = () if kept is None or gang[0] in kept.heads else tuple(kept.nodes.tolist())
        found: list[Room] = []
        for row in gang:
            claimant = self._claimant(row, state)
            # Where nothing was changed yet, what fits does not start for another reason than room.
            room = state.leftover(claimant, kept=elsewhere) if moved or found or len(gang) > 1 else None
            room = room or state.find(claimant, kept=elsewhere)
            if room is None:
                return None
            state.take(room)
            found.append(room)
        return found

    def _claimant(self, row: int, state: Rooms) -> Claimant:
        demand, asked = self.outlook.pending[row], self.outlook.asked
        least = tuple(asked.minimum[row].tolist())
        claim = state.lending.claim(demand.team, dict(zip(asked.resources, least, strict=True))) if self.reclaims[row] else ()
        return Claimant(row, demand, int(self.standing[row]), least, claim)

    def _confirmed(self, rooms: list[Room], view: View) -> list[Room]:
        """Leave out rooms that the next plan would not give to those they are made for, or that come by themselves."""
        rooms = self._without_those_soon_served(rooms)
        while any(room.victims or room.shrunk for room in rooms):
            then = self._once_made(rooms)
            kept = [room for room in rooms if then.served(room.claimant.row)]
            if len(kept) == len(rooms):
                lost = (view.solution.where >= 0) & (then.solution.where[: len(view.asked)] < 0)
                if not lost.any():
                    return rooms
                kept = rooms[:-1]
            rooms = self._whole_gangs(kept, rooms)
        return []

    def _whole_gangs(self, kept: list[Room], rooms: Sequence[Room]) -> list[Room]:
        """Leave out what is left of a gang of which a room was left out."""
        lost = {room.claimant.demand.gang for room in rooms if room not in kept} - {None}
        return [room for room in kept if room.claimant.demand.gang not in lost]

    def _without_those_soon_served(self, rooms: list[Room]) -> list[Room]:
        """Preempt nobody for what ends by itself in time."""
        limit, ends = self.now + self.policy.patience_s, self.policy.ends or {}
        soon = {grant.id for _, grant in self.live.settled if self.now < ends.get(grant.id, np.inf) <= limit}
        if not soon or not any(room.victims for room in rooms):
            return rooms
        then = self.outlook.given((team, grant) for team, grant in self.live.settled if grant.id not in soon)
        patient = [room for room in rooms if room.victims and then.served(room.claimant.row)]
        if patient:
            self._again(min(ends[name] for name in soon))
        return self._whole_gangs([room for room in rooms if room not in patient], rooms)

    def _once_made(self, rooms: Sequence[Room]) -> View:
        """Return what will be once rooms are made, and those who stopped for them ask again."""
        stops = [self.living.held[row] for row in sorted({row for room in rooms for row in room.victims})]
        gone = {one.grant.id for one in stops}
        less = given_back(rooms, self.living.held, self.outlook.asked.resources)
        live = [(team, _less(grant, less.get(grant.id, {}))) for team, grant in self.live.settled if grant.id not in gone]
        asking = [*self.outlook.pending, *(one.demand for one in stops)]
        policy = self.outlook.policy
        policy = replace(policy, started=frozenset(policy.started) - {one.demand.gang for one in stops})
        return Outlook(self.outlook.cluster, asking, policy, self.now).given(live)


def given_back(rooms: Sequence[Room], held: Sequence[Held], resources: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return what each live grant gives back of each resource, those that stop left out."""
    gone = {row for room in rooms for row in room.victims}
    less: dict[str, dict[str, float]] = {}
    for row, taken in (shrunk for room in rooms for shrunk in room.shrunk.items() if shrunk[0] not in gone):
        mine = less.setdefault(held[row].grant.id, {})
        for name, amount in zip(resources, taken.tolist(), strict=True):
            mine[name] = mine.get(name, 0.0) + amount
    return {name: {resource: amount for resource, amount in mine.items() if amount > 0} for name, mine in less.items()}


def _less(grant: Grant, less: dict[str, float]) -> Grant:
    return replace(grant, amounts={name: amount - less.get(name, 0.0) for name, amount in grant.amounts.items()}) if less else grant
