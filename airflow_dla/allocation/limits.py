r"""What a tree of teams may still be granted: guarantees, borrowing and lending.

For a team t with guarantee :math:`q_t`, lending limit :math:`l_t` and borrowing limit
:math:`B_t`, let :math:`L_t = \max(0, S_t - l_t)` be what it keeps for itself (0 without a
lending limit) and :math:`S_t = q_t + \sum_{c} (S_c - L_c)` what its subtree has. What a team
uses beyond what it keeps, its parent is charged for:

.. math:: U_t = u_t + \sum_c \max(0, U_c - L_c), \qquad U_t \le S_t + B_t

The cluster is the root: it is guaranteed what no team is, and borrows from nobody.

References
----------
Kueue, pkg/cache/scheduler/resource_node.go: subtree quota, local quota and available.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.table import Floats, Ints
from airflow_dla.allocation.teams import TeamShare

_WINDOW = 128
_WIDEST = 1024
_HALVINGS = 60
_EQUAL = 1e-9


@dataclass(frozen=True, slots=True)
class TeamTree:
    """Teams as arrays: M of them, parents before children, the cluster first; R resources.

    Parameters
    ----------
    parent : int array, shape (M,)
        -1 for the cluster.
    of : int array, shape (T,)
        Where the teams of the demands stand in the tree.
    weight : float array, shape (M,)
    guaranteed : float array, shape (M, R)
        What the subtree of each has.
    kept : float array, shape (M, R)
        What each lends to nobody.
    limit : float array, shape (M, R)
        Most that each may be charged for; infinite where it borrows freely.
    used, past : float array, shape (M, R)
        What each, without its children, holds now and held lately.
    slack : float array, shape (R,)
        Excess that is taken for rounding.
    """

    parent: Ints
    of: Ints
    weight: Floats
    guaranteed: Floats
    kept: Floats
    limit: Floats
    used: Floats
    past: Floats
    slack: Floats

    def charged(self, own: Floats) -> Floats:
        """Return what every team is charged for, its children's borrowing included.

        Parameters
        ----------
        own : float array, shape (M, ..., R)
            What each team holds itself.
        """
        charged = own.copy()
        for team in range(len(self.parent) - 1, 0, -1):
            kept = self.kept[team]
            charged[self.parent[team]] += np.maximum(0.0, charged[team] - kept)
        return charged

    def available(self, own: Floats) -> Floats:
        """Return what each team of a demand could be granted now, alone, shape (T, R)."""
        return self._left(own, self.limit[0])

    def permitted(self, own: Floats) -> Floats:
        """Return what each team's own limits and its parents' leave it, whatever the others hold, shape (T, R)."""
        return self._left(own, np.full(len(self.slack), np.inf))

    def _left(self, own: Floats, most: Floats) -> Floats:
        charged, left = self.charged(own), np.empty_like(own)
        left[0] = most - charged[0]
        for team in range(1, len(self.parent)):
            spare = np.maximum(0.0, self.kept[team] - charged[team])
            borrowed = np.maximum(charged[team], self.kept[team])
            # Where others hold too much already, what a team keeps for itself is still its own.
            left[team] = spare + np.maximum(0.0, np.minimum(self.limit[team] - borrowed, left[self.parent[team]]))
        return np.maximum(0.0, left[self.of])

    def held(self, team: Ints, amounts: Floats) -> Floats:
        """Return what each team holds itself once demands of `team` have been given `amounts`."""
        own = self.used.copy()
        np.add.at(own, self.of[team], amounts)
        return own

    def passing(self, own: Floats, team: Ints, size: Floats) -> Ints:
        """Serve demands in order, each if the limits leave it room; return the places of those served.

        Parameters
        ----------
        own : float array, shape (M, R)
            What each team holds itself.
        team : int array, shape (k,)
        size : float array, shape (k, R)
        """
        own, left, window = own.copy(), np.arange(len(team)), _WINDOW
        served: list[Ints] = []
        while len(left):
            now = left[:window]
            count = self._run(own, team[now], size[now])
            np.add.at(own, self.of[team[now[:count]]], size[now[:count]])
            served.append(now[:count])
            left = left[count:]
            if count == len(now):
                window = min(2 * window, _WIDEST)
                continue
            room, left, window = self.available(own), left[1:], _WINDOW
            left = left[(size[left] <= room[team[left]] + self.slack).all(axis=1)]
        return np.concatenate(served) if served else left

    def _run(self, own: Floats, team: Ints, size: Floats) -> int:
        """Return how many demands, one after the other, keep every limit."""
        stack = np.zeros((len(own), len(team), size.shape[1]))
        stack[self.of[team], np.arange(len(team))] = size
        charged = self.charged(np.cumsum(stack, axis=1) + own[:, None, :])
        # What a team was over its limit before it asked for anything is not this demand's doing.
        before = self.charged(own)[:, None, :]
        kept = ((charged <= self.limit[:, None, :] + self.slack) | (charged <= before)).all(axis=(0, 2))
        return len(team) if kept.all() else int(np.argmin(kept))

    def growth(self, own: Floats, wants: Floats) -> Floats:
        """Share what the limits leave among teams that want more: weighted max-min, each resource apart.

        Parameters
        ----------
        own : float array, shape (M, R)
        wants : float array, shape (T, R)

        Returns
        -------
        float array, shape (T, R)
            At most `wants`.
        """
        given = np.zeros_like(wants)
        for column in np.flatnonzero(wants.sum(axis=0) > 0).tolist():
            given[:, column] = self._fill(own, wants[:, column], column)
        return given

    def _fill(self, own: Floats, wants: Floats, column: int) -> Floats:
        given, active, weight = np.zeros_like(wants), wants > 0, self.weight[self.of]
        while active.any():
            level = self._level(own, given, np.where(active, wants, 0.0), column)
            given = np.where(active, np.minimum(wants, level * weight), given)
            more = own.copy()
            np.add.at(more[:, column], self.of, given)
            room = self.available(more)[:, column]
            still = active & (given < wants) & (room > self.slack[column])
            if (still == active).all():
                break
            active = still
        return given

    def _level(self, own: Floats, given: Floats, wants: Floats, column: int) -> float:
        """Return how far all active teams can rise together before a limit is met."""
        weight = self.weight[self.of]

        def fits(level: float) -> bool:
            more = own.copy()
            np.add.at(more[:, column], self.of, np.where(wants > 0, np.minimum(wants, level * weight), given))
            return bool((self.charged(more)[:, column] <= np.maximum(self.limit[:, column], self.charged(own)[:, column])).all())

        low, high = 0.0, float((wants / weight).max())
        if fits(high):
            return high
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low


def read_teams(
    teams: Sequence[TeamShare],
    names: Sequence[str],
    resources: Sequence[str],
    total: Floats,
    used: Mapping[str, Mapping[str, float]],
) -> TeamTree:
    """Turn teams into arrays.

    Parameters
    ----------
    teams : sequence of `TeamShare`
        Checked by `check_teams`.
    names : sequence of str
        Teams of the demands; those without an entry stand directly below the cluster.
    resources : sequence of str
        Columns.
    total : float array, shape (R,)
        What the cluster has.
    used : mapping of team to mapping of resource to float
        What teams hold now.
    """
    known = {team.name: team for team in teams}
    known |= {name: TeamShare(name=name) for name in {*names, *used} - set(known)}
    order = sorted(known.values(), key=lambda team: (_depth(team, known), team.name))
    row = {team.name: place for place, team in enumerate(order, start=1)}
    parent = np.array([-1, *(row[team.parent] if team.parent else 0 for team in order)], dtype=np.intp)

    def table(rows: Sequence[Mapping[str, float]], missing: float) -> Floats:
        values = [[given.get(resource, missing) for resource in resources] for given in rows]
        return np.array(values, dtype=float).reshape(len(rows), len(resources))

    subtree = np.vstack([np.zeros(len(resources)), table([team.guaranteed for team in order], 0.0)])
    lent = np.vstack([np.zeros(len(resources)), table([team.lend for team in order], np.inf)])
    kept = np.zeros_like(subtree)
    for place in range(len(order), 0, -1):
        kept[place] = np.maximum(0.0, subtree[place] - lent[place])
        subtree[parent[place]] += subtree[place] - kept[place]
    apart = kept[1:].sum(axis=0)
    subtree[0] = np.maximum(0.0, total - apart)
    borrow = np.vstack([np.zeros(len(resources)), table([team.borrow for team in order], np.inf)])
    nothing: Mapping[str, float] = {}
    return TeamTree(
        parent=parent,
        of=np.array([row[name] for name in names], dtype=np.intp),
        weight=np.array([1.0, *(team.weight for team in order)]),
        guaranteed=subtree,
        kept=kept,
        limit=subtree + borrow,
        used=np.vstack([np.zeros(len(resources)), table([used.get(team.name, nothing) for team in order], 0.0)]),
        past=np.vstack([np.zeros(len(resources)), table([team.past_use for team in order], 0.0)]),
        slack=np.maximum(total, 0.0) * _EQUAL,
    )


def _depth(team: TeamShare, known: Mapping[str, TeamShare]) -> int:
    depth = 0
    while team.parent is not None:
        team, depth = known[team.parent], depth + 1
    return depth
