"""Why a gang waits: who is not here yet, or which member finds no room beside the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from airflow_dla.allocation.gangs import Gangs
from airflow_dla.allocation.rules import Rules, unit_after, written
from airflow_dla.allocation.solve import Solution
from airflow_dla.allocation.table import RELATIVE, Asked, Floats, Ints, Offered
from airflow_dla.specs import Reason

_DIGITS = 9


@dataclass(frozen=True, slots=True)
class _Short:
    """Where a member finds too little: what it needs there, and what there is beside the others."""

    row: int
    node: int
    need: Floats
    free: Floats


class GangReasons:
    """Writes the reasons of the members of gangs in one plan.

    Parameters
    ----------
    asked, offered, solution
        The problem and its answer.
    rules : `Rules`
        Says what quotas, guarantees and the head of the queue forbid.
    gangs : `Gangs`
    hopeless : collection of int
        Demands that no node will ever have room for.
    prices : mapping of resource to float

    Attributes
    ----------
    never : dict of row to `Reason`
        Why gangs can never be granted that ask for more than there is, for each member.
    """

    def __init__(
        self,
        asked: Asked,
        offered: Offered,
        solution: Solution,
        *,
        rules: Rules,
        gangs: Gangs,
        hopeless: Collection[int],
        prices: Mapping[str, float],
    ) -> None:
        self._asked, self._offered, self._solution, self._rules = asked, offered, solution, rules
        self._gangs, self._hopeless, self._prices = gangs, hopeless, prices
        self._of, self._known = gangs.of.tolist(), dict[int, Reason]()
        self._by_name = np.argsort(np.array(offered.names, dtype=str), kind="stable")
        self._scale = 1.0 / np.where(offered.capacity > 0, offered.capacity, 1.0)
        self.never = _never_whole(asked, offered, gangs)

    def has(self, row: int) -> bool:
        """Whether a demand is of a gang."""
        return bool(self._of[row] >= 0)

    def reason(self, row: int, position: int) -> Reason:
        """Write why a member waits, which is why all of its gang do."""
        if row in self.never:
            return self.never[row]
        gang = self._of[row]
        if gang not in self._known:
            self._known[gang] = self._cause(gang, self._gangs.rows(gang))
        cause = self._known[gang]
        found = replace(cause, position=position, text=f"waits as number {position}: gang {self._gangs.names[gang]} {cause.text}")
        kept = self._solution.kept
        return self._rules.head(found) if kept is not None and row in kept.heads else found

    def _cause(self, gang: int, rows: Ints) -> Reason:
        here, size = int(self._gangs.here[gang]), int(self._gangs.size[gang])
        if here < size:
            return self._incomplete(self._gangs.names[gang], here, size)
        barred = self._solution.admission.barred
        for row in rows.tolist():
            if row in self._hopeless or row in barred:
                return self._member_kept_out(row, "is more than its team can pay" if row in barred else "can never be granted")
        return self._beyond_limits(rows) or self._no_room(rows)

    def _incomplete(self, name: str, here: int, size: int) -> Reason:
        return Reason(
            binding="gang",
            unblock=(f"start the other {size - here} of the {size} members of gang {name}", f"lower gang_size to {here}"),
            text=f"starts whole, and {here} of its {size} members are here",
        )

    def _member_kept_out(self, row: int, why: str) -> Reason:
        member = self._gangs.ids[row]
        return Reason(
            binding="gang",
            unblock=(f"do what the reason of {member} says", f"take {member} out of the gang"),
            text=f"starts whole, and its member {member} {why}",
        )

    def _beyond_limits(self, rows: Ints) -> Reason | None:
        for team in np.unique(self._asked.team[rows]).tolist():
            need = self._asked.minimum[rows[self._asked.team[rows] == team]].sum(axis=0)
            if (need > self._solution.quota[team] * (1 + RELATIVE)).any():
                return self._continued(self._rules.quota(team, need, 0))
            if (need > self._solution.lent[team] * (1 + RELATIVE)).any():
                return self._continued(self._rules.guarantee(team, need, self._first_node(rows), 0))
        return None

    def _first_node(self, rows: Ints) -> int:
        return int(np.argmax(self._offered.allowed[self._asked.kind[rows[0]]]))

    def _continued(self, reason: Reason) -> Reason:
        """Take off what every reason begins with: what follows is said of the gang."""
        return replace(reason, text=reason.text.partition(": ")[2])

    def _no_room(self, rows: Ints) -> Reason:
        short = self._shortages(rows)
        if short:
            return self._short(short)
        if self._solution.kept is not None and not set(rows.tolist()) & set(self._solution.kept.heads):
            kept = self._continued(self._rules.kept_back(0))
            return replace(kept, text=f"would fit, but {kept.text}")
        return self._scattered(rows)

    def _scattered(self, rows: Ints) -> Reason:
        row, gpu = int(rows[0]), self._asked.gpu
        column = gpu if gpu is not None and self._asked.minimum[row, gpu] > 0 else int(np.argmax(self._asked.minimum[row] > 0))
        resource = self._asked.resources[column]
        needs = written(resource, float(self._asked.minimum[row, column]))
        return Reason(
            binding=resource,
            price=self._prices.get(resource, 0.0),
            unblock=(f"wait until {needs} are free in one piece for each member",),
            text=f"starts whole: each member needs its share in one piece, as {self._gangs.ids[row]} {needs}, what is free is scattered",
        )

    def _shortages(self, rows: Ints) -> list[_Short]:
        """Place the members one after the other; where one lacks something, go on as if that were there."""
        found, free, capacity = [], self._solution.free.copy(), self._offered.capacity + self._offered.slack
        for row in self._solution.order[np.isin(self._solution.order, rows)].tolist():
            node = self._nearest(row, free, capacity)
            if node is None:
                continue
            need = self._asked.minimum[row]
            if (need > free[node] + self._offered.slack[node]).any():
                found.append(_Short(row, node, need, free[node].copy()))
                free[node] = np.maximum(free[node], need)
            free[node] -= need
            capacity[node] -= need
        return found

    def _nearest(self, row: int, free: Floats, capacity: Floats) -> int | None:
        """Return the fullest node that has room for a member, else the one where least is missing that might have."""
        need, able = self._asked.minimum[row], self._offered.allowed[self._asked.kind[row]]
        holding = able & (need <= capacity).all(axis=1)
        nodes = self._by_name[(holding if holding.any() else able)[self._by_name]]
        if not len(nodes):
            return None
        missing = ((need - free[nodes] - self._offered.slack[nodes]) * self._scale[nodes]).max(axis=1)
        emptiness = (free[nodes] * self._scale[nodes]).sum(axis=1)
        return int(nodes[np.lexsort((emptiness.round(_DIGITS), np.maximum(0.0, missing).round(_DIGITS)))[0]])

    def _short(self, short: list[_Short]) -> Reason:
        first = short[0]
        there = self._offered.capacity[first.node]
        column = int(np.argmax((first.need - first.free) / np.where(there > 0, there, 1.0)))
        resource, name = self._asked.resources[column], self._offered.names[first.node]
        needs, room = written(resource, float(first.need[column])), max(0.0, float(first.free[column]))
        lacking = self._lacking(short)
        others = " beside the others" if len(self._gangs.rows(int(self._gangs.of[first.row]))) > 1 else ""
        return Reason(
            binding=resource,
            node=name,
            shortfall=float(first.need[column] - first.free[column]),
            price=self._prices.get(resource, 0.0),
            unblock=(
                "wait until " + " and ".join(f"{more} are free on {node}" for node, more in lacking),
                "add " + " and ".join(f"{more} on {node}" for node, more in lacking),
            ),
            text=f"starts whole: its member {self._gangs.ids[first.row]} needs {needs}, {name} has {room:g} free{others}",
        )

    def _lacking(self, short: list[_Short]) -> list[tuple[str, str]]:
        """Return by node what all members together lack, written out."""
        total: dict[tuple[int, int], float] = {}
        for item in short:
            for column in np.flatnonzero(item.need > item.free + self._offered.slack[item.node]).tolist():
                key = (item.node, column)
                total[key] = total.get(key, 0.0) + float(item.need[column] - max(0.0, item.free[column]))
        return [(self._offered.names[node], _more(self._asked.resources[column], more)) for (node, column), more in total.items()]


def gang_reasons(
    asked: Asked, offered: Offered, solution: Solution, *, rules: Rules, never: Ints, prices: Mapping[str, float]
) -> GangReasons:
    """Make the writer for a plan, also for one without gangs, where it has nothing to say.

    Parameters
    ----------
    never : int array
        Demands that no node will ever have room for.
    """
    gangs = asked.gangs or Gangs.none(len(asked))
    return GangReasons(asked, offered, solution, rules=rules, gangs=gangs, hopeless=frozenset(never.tolist()), prices=prices)


def _never_whole(asked: Asked, offered: Offered, gangs: Gangs) -> dict[int, Reason]:
    """Return the members of gangs that ask for more than all nodes that they may use have together, each with why."""
    found: dict[int, Reason] = {}
    for gang in range(len(gangs.names) if offered.names else 0):
        rows = gangs.rows(gang)
        usable = offered.allowed[asked.kind[rows]].any(axis=0)
        need, there = asked.minimum[rows].sum(axis=0), offered.capacity[usable].sum(axis=0)
        beyond = np.flatnonzero(need > there * (1 + RELATIVE))
        if usable.any() and len(beyond):
            column = int(beyond[np.argmax((need - there)[beyond] / need[beyond])])
            reason = _too_large(gangs.names[gang], asked.resources[column], float(need[column]), float(there[column]))
            found |= dict.fromkeys(rows.tolist(), reason)
    return found


def _more(resource: str, amount: float) -> str:
    return f"{amount:g}{unit_after(resource)} more {resource}"


def _too_large(name: str, resource: str, need: float, there: float) -> Reason:
    asks, has, more = written(resource, need), written(resource, there), written(resource, need - there)
    return Reason(
        binding=resource,
        shortfall=need - there,
        never=True,
        unblock=(f"ask for at most {has} in all members together", f"add nodes with {more}"),
        text=f"can never be granted: gang {name} asks {asks} in all, the nodes it may use have {has}",
    )
