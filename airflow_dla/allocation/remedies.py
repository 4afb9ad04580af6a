"""What would start a demand that waits: what must happen, or what somebody could do, in words and in numbers.

Every remedy is complete: when all its steps have been taken, on what this round leaves, the next
round starts the demand, whoever else waits. So what is added counts those who are
served before it, and a demand that several rules keep out has a step for each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from airflow_dla.allocation.limits import TeamTree, read_teams
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.rules import listed, moment
from airflow_dla.allocation.solve import Solution
from airflow_dla.allocation.table import RELATIVE, Asked, Floats, Ints, Offered
from airflow_dla.specs import Step, Unblock

#: How many of the queue are told all that would start them; the others that they must wait for those before them.
DETAILED: Final = 32
#: Strategies whose order does not change when one of the queue has been served.
_STEADY: Final = ("lp", "greedy")
_TINY: Final = 1e-9
_WHOLE: Final = 1.0 - 1e-9

_FAR: Final = (
    Unblock(
        "wait until those who are served before it have started and a node has room for it",
        (Step(kind="served"), Step(kind="freed")),
    ),
)
_FAR_OF_ALL: Final = (
    Unblock("wait until the others who wait have started and a node has room for it", (Step(kind="served"), Step(kind="freed"))),
)
#: What somebody can do: how it is said, and the step.
_Part = tuple[str, Step]


@dataclass(frozen=True, slots=True)
class Lacking:
    """What keeps a demand out, each of shape (R,) and 0 where nothing is missing.

    Parameters
    ----------
    row, node : int
        The demand, and where least is missing; -1 where no node may hold it.
    before : int array
        Those that wait and are served before it.
    rivals : int array
        Those that may be served before it once there is more of something.
    quota : float array
        Beyond the quota of its team.
    room : float array
        More than is free on the node.
    """

    row: int
    node: int
    before: Ints
    rivals: Ints
    quota: Floats
    room: Floats


class Remedies:
    """Finds what would start the demands that wait.

    Parameters
    ----------
    asked, offered, solution, policy
        The problem and its answer.
    queue : int array, shape (w,)
        Those that wait, in the order of admission; also those that no node is large enough for: one
        that is enlarged may be.
    """

    def __init__(self, asked: Asked, offered: Offered, solution: Solution, policy: Policy, queue: Ints) -> None:
        self.asked, self.offered, self.solution, self.policy, self.queue = asked, offered, solution, policy, queue
        self.minimum = self._in_devices(asked.minimum)
        self._sums: dict[int, Floats] = {}

    @cached_property
    def free(self) -> Floats:
        """What is left of nodes; of GPUs that are handed out, those that nobody uses."""
        free = np.maximum(0.0, self.solution.free)
        if self.asked.gpu is not None:
            for node, devices in self.solution.devices.items():
                free[node, self.asked.gpu] = devices.whole_left
        return free

    def _in_devices(self, amounts: Floats) -> Floats:
        """Count a share of a GPU as a whole one, where devices are handed out."""
        if self.asked.gpu is None or not self.solution.devices:
            return amounts
        counted = amounts.copy()
        counted[:, self.asked.gpu] = np.ceil(counted[:, self.asked.gpu] - _TINY)
        return counted

    @cached_property
    def tree(self) -> TeamTree | None:
        """The tree of teams, what this round granted included."""
        if not self.policy.teams:
            return None
        return read_teams(self.policy.teams, self.asked.teams, self.asked.resources, self.offered.capacity.sum(axis=0), self.policy.used)

    def waiting(self, place: int, node: int, *, kept: bool) -> tuple[Unblock, ...]:
        """Say what would start one demand.

        Parameters
        ----------
        place, node : int
            Where in the queue it stands, from 0, and the node where least is missing.
        kept : bool
            Whether it waits only because what is free is kept for the head of the queue.
        """
        if place >= DETAILED:
            return _FAR if self.policy.strategy in _STEADY else _FAR_OF_ALL
        lacking = self._lacking(place, node)
        found = [*self._shortcuts(lacking, kept=kept)]
        waits = list(self._waits(lacking)) if self._comes_back(lacking) else []
        if waits:
            found.insert(0, _unblock("wait until {}", iter(waits)))
        if not kept:
            found += [*self._lower(lacking), *self._raise(lacking)]
        return tuple(found) or _FAR_OF_ALL

    def _lacking(self, place: int, node: int) -> Lacking:
        row = int(self.queue[place])
        others = self.queue[self.queue != row]
        before = self.queue[:place] if self.policy.strategy in _STEADY else others
        rivals = before if self.policy.strategy == "lp" else others
        own, quota = self.asked.minimum[row], self.solution.quota[self.asked.team[row]]
        beyond = np.where(own > quota * (1 + RELATIVE), own - quota, 0.0)
        room = np.zeros(len(own))
        if node >= 0:
            room = self._short(row, node, self.asked.minimum[row])
        return Lacking(row, node, before, rivals, beyond, room)

    def _short(self, row: int, node: int, need: Floats) -> Floats:
        """Return what a node lacks of a need, of GPUs in one piece."""
        free, gpu = np.maximum(0.0, self.solution.free[node]), self.asked.gpu
        short = np.where(need > free + self.offered.slack[node], need - free, 0.0)
        devices = self.solution.devices.get(node)
        if gpu is None or devices is None or self.asked.minimum[row, gpu] <= 0:
            return short
        if need[gpu] >= 1:
            short[gpu] = max(0.0, need[gpu] - devices.whole_left)
        else:
            fits = devices.whole_left > 0 or any(share + _TINY >= need[gpu] for share in devices.unpromised())
            short[gpu] = 0.0 if fits else need[gpu] - max(devices.unpromised(), default=0.0)
        return short

    def _comes_back(self, lacking: Lacking) -> bool:
        """Whether the team could have it if it, and the others, held nothing."""
        number, own = int(self.asked.team[lacking.row]), self.asked.minimum[lacking.row]
        quota = self.policy.quotas.get(self.asked.teams[number], {})
        most = np.array([quota.get(resource, np.inf) for resource in self.asked.resources])
        if self.tree is not None:
            most = np.minimum(most, self.tree.available(np.zeros_like(self.tree.used))[number])
        return bool((own <= most * (1 + RELATIVE)).all())

    def _waits(self, lacking: Lacking) -> Iterator[_Part]:
        """Yield what must happen by itself."""
        team = self.asked.teams[self.asked.team[lacking.row]]
        if len(lacking.before):
            who = "those who are served before it" if self.policy.strategy in _STEADY else "the others who wait"
            yield f"{who} have started", Step(kind="served")
        if lacking.row in self.solution.admission.barred:
            yield f"the budget of team {team} is refilled", Step(kind="refilled", team=team, value=self._bids(lacking.row))
        yield from self._returns(lacking, team)
        if lacking.room.any():
            amounts = self._amounts(lacking.room)
            name = self.offered.names[lacking.node]
            yield f"{listed(amounts)} more are free on {name}", Step(kind="freed", amounts=amounts, node=name)

    def _returns(self, lacking: Lacking, team: str) -> Iterator[_Part]:
        """Yield what its team, and those that borrow what it may have, must give back."""
        own, lent = self.asked.minimum[lacking.row], self.solution.lent[self.asked.team[lacking.row]]
        missing = np.where(own > lent * (1 + RELATIVE), own - lent, 0.0)
        amounts = self._amounts(np.maximum(lacking.quota, missing))
        if not amounts:
            return
        step = Step(kind="returned", amounts=amounts, team=team)
        if not lacking.quota.any():
            yield f"{listed(amounts)} more that may be borrowed come back", step
            return
        whose = f"team {team}, and teams that borrow what it may have, give" if self.policy.teams else f"team {team} gives"
        yield f"{whose} {listed(amounts)} back", step

    def _shortcuts(self, lacking: Lacking, *, kept: bool) -> Iterator[Unblock]:
        """Yield what helps where rules alone keep it out."""
        promise = self.solution.kept
        if not kept or promise is None:
            return
        if np.isfinite(promise.at) and promise.at > self.asked.now:
            most = promise.at - self.asked.now
            yield Unblock(f"let it end by {moment(promise.at)}: expect a run of at most {most:g} s", (Step(kind="run", value=most),))
        if self.policy.strategy == "lp":
            ahead = self.asked.priority[lacking.before] + self.asked.aged[lacking.before]
            most = int(ahead.max(initial=0)) + 1 - int(self.asked.aged[lacking.row])
            yield Unblock(f"raise its priority to {most}", (Step(kind="priority", value=float(most)),))

    def _lower(self, lacking: Lacking) -> Iterator[Unblock]:
        """Yield the minimum that would fit what is free.

        Not under `price`: it packs the whole queue anew, and a smaller demand may make room for others instead.
        """
        row, node = lacking.row, lacking.node
        promise = self.solution.kept
        if self.policy.strategy == "price":
            return
        if promise is not None and promise.node == node and promise.head != row:
            return
        if lacking.quota.any() or row in self.solution.admission.barred:
            return
        room = np.minimum(self._room(row, node), self.solution.lent[self.asked.team[row]])
        target = np.minimum(self.asked.minimum[row], room)
        changed = target < self.asked.minimum[row] - self.offered.slack[node]
        if not changed.any() or (target[changed] <= _TINY).any():
            return
        amounts = self._amounts(np.where(changed, target, 0.0))
        yield Unblock(f"lower the minimum to {listed(amounts)}", (Step(kind="lower", amounts=amounts),))

    def _room(self, row: int, node: int) -> Floats:
        """Return what a node could give the demand now, GPUs as they may be asked for."""
        room: Floats = np.maximum(0.0, self.solution.free[node])
        gpu = self.asked.gpu
        if gpu is None or self.asked.minimum[row, gpu] <= 0:
            return room
        devices = self.solution.devices.get(node)
        whole = math.floor(room[gpu] + _TINY) if devices is None else devices.whole_left
        if self.asked.wanted[row, gpu] > 1 or whole:
            room[gpu] = float(whole)
        elif devices is not None:
            room[gpu] = max(devices.unpromised(), default=0.0)
        return room

    def _raise(self, lacking: Lacking) -> Iterator[Unblock]:
        """Yield how much more its team and its node would have to have."""
        parts = [*self._more_quota(lacking), *self._more_guarantee(lacking), *self._more_budget(lacking), *self._more_room(lacking)]
        if parts:
            yield _unblock("{}", iter(parts))

    def _more_quota(self, lacking: Lacking) -> Iterator[_Part]:
        number = int(self.asked.team[lacking.row])
        team = self.asked.teams[number]
        most = np.array([self.policy.quotas.get(team, {}).get(resource, np.inf) for resource in self.asked.resources])
        if not np.isfinite(most).any():
            return
        used = self.policy.used.get(team, {})
        held = self.solution.amounts[self.asked.team == number].sum(axis=0)
        left = np.maximum(0.0, most - [used.get(resource, 0.0) for resource in self.asked.resources]) - held
        rows = np.append(lacking.rivals[self.asked.team[lacking.rivals] == number], lacking.row)
        more = self._amounts(np.maximum(0.0, self.asked.minimum[rows].sum(axis=0) - left))
        if more:
            yield f"raise the quota of team {team} by {listed(more)}", Step(kind="quota", amounts=more, team=team)

    def _more_guarantee(self, lacking: Lacking) -> Iterator[_Part]:
        """Yield the guarantee that would be enough, where limits of teams keep the demand out."""
        tree, number = self.tree, int(self.asked.team[lacking.row])
        if tree is None:
            return
        rows = np.append(lacking.rivals, lacking.row)
        own = tree.held(self.asked.team, self.solution.amounts)
        np.add.at(own, tree.of[self.asked.team[rows]], self.asked.minimum[rows])
        charged, at = tree.charged(own), int(tree.of[number])
        beyond, above = charged[at] > tree.limit[at] + tree.slack, int(tree.parent[at])
        while above >= 0:
            beyond |= charged[above] > tree.limit[above] + tree.slack
            above = int(tree.parent[above])
        amounts = self._amounts(np.where(beyond & (self.asked.minimum[lacking.row] > 0), charged[at], 0.0))
        if amounts:
            team = self.asked.teams[number]
            yield f"guarantee team {team} {listed(amounts)} and let it lend none of it", Step(kind="guarantee", amounts=amounts, team=team)

    def _more_budget(self, lacking: Lacking) -> Iterator[_Part]:
        if lacking.row in self.solution.admission.barred:
            team, tokens = self.asked.teams[self.asked.team[lacking.row]], self._bids(lacking.row)
            yield f"raise the budget of team {team} to {tokens:g} tokens", Step(kind="budget", team=team, value=tokens)

    def _more_room(self, lacking: Lacking) -> Iterator[_Part]:
        if lacking.node < 0:
            return
        need = self._served(lacking)
        more = self._amounts(np.where(self.asked.minimum[lacking.row] > 0, np.maximum(0.0, need - self.free[lacking.node]), 0.0))
        if more:
            name = self.offered.names[lacking.node]
            yield f"add {listed(more)} to {name}", Step(kind="capacity", amounts=more, node=name)

    def _served(self, lacking: Lacking) -> Floats:
        """Return what those before a demand and itself could take of its node, shape (R,)."""
        node, steady = lacking.node, self.policy.strategy == "lp"
        if node not in self._sums:
            rows = self.queue[:DETAILED] if steady else self.queue
            here = self.offered.allowed[self.asked.kind[rows], node]
            self._sums[node] = np.cumsum(self.minimum[rows] * here[:, None], axis=0)
        need: Floats = self._sums[node][len(lacking.rivals) if steady else -1]
        return need

    def _bids(self, row: int) -> float:
        """Return what all that a team asks for could cost at most."""
        own = self.asked.team == self.asked.team[row]
        steps = np.clip(self.asked.priority[own] + self.asked.aged[own], -60, 60)
        return float((self.asked.weight[own] * np.exp2(steps.astype(float))).sum())

    def _amounts(self, values: Floats) -> dict[str, float]:
        return {resource: float(value) for resource, value in zip(self.asked.resources, values, strict=True) if value > _TINY}


def _unblock(sentence: str, parts: Iterator[_Part]) -> Unblock:
    said, steps = zip(*parts, strict=True)
    return Unblock(sentence.format(", and ".join(said)), steps)
