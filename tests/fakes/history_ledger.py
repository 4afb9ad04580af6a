"""The part of the `Ledger` contract that forecasts use, in memory, with a clock and a past of one's own."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_dla.ledger import NodeRow, PastRun
from airflow_dla.specs import Expected, Node


class HistoryLedger:
    """Past runs, nodes, and what is expected.

    Parameters
    ----------
    now : float
    past : sequence of `PastRun`
    nodes : sequence of `Node`
    """

    def __init__(self, now: float, past: Sequence[PastRun] = (), nodes: Sequence[Node] = ()) -> None:
        self._now, self._past, self._nodes = now, past, nodes
        self.expected: dict[str, tuple[Expected, ...]] = {}

    def now(self) -> float:
        """Return the time."""
        return self._now

    def nodes(self) -> tuple[NodeRow, ...]:
        """Return every node."""
        return tuple(NodeRow(node, "", self._now) for node in self._nodes)

    def past_runs(
        self, *, since: float = 0.0, dag: str | None = None, task: str | None = None, team: str | None = None, limit: int = 1000
    ) -> tuple[PastRun, ...]:
        """Return past runs, newest first."""
        wanted = [run for run in self._past if run.created_at >= since and dag in {None, run.dag} and task in {None, run.task}]
        return tuple(sorted(wanted, key=lambda run: (-run.created_at, run.attempt)))[:limit]

    def expect(self, source: str, jobs: Sequence[Expected]) -> None:
        """Make these all that a source expects."""
        self.expected[source] = tuple(jobs)
