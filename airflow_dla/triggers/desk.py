"""Where the triggers of one event loop ask together: the cost grows with events, not with waiting tasks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from airflow_dla.control import Workspace, ask, keep
from airflow_dla.errors import LedgerUnavailable
from airflow_dla.ledger import Answer, Lease
from airflow_dla.triggers.settling import in_ledger_pool

log = logging.getLogger(__name__)

#: The answer to a demand that the ledger does not know any more.
GONE: Final = "gone"
#: Seconds before a ledger that does not answer is asked again.
_AGAIN_S: Final = 5.0

Answers = asyncio.Queue[tuple[Any, float]]


class Desk:
    """Asks for all demands that wait, and renews all leases that are held, in one go each.

    Parameters
    ----------
    workspace : `Workspace`
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._waiting: dict[str, Answers] = {}
        self._held: set[str] = set()
        self._renewed_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def waiting(self, demand: str) -> Iterator[Answers]:
        """Give out a queue of a demand's answers, each with the ledger's time."""
        self._waiting[demand] = answers = Answers()
        self._work()
        try:
            yield answers
        finally:
            del self._waiting[demand]

    @contextmanager
    def holding(self, demand: str) -> Iterator[None]:
        """Renew a lease for as long as the block runs."""
        self._held.add(demand)
        self._renewed_at = float("-inf")
        self._work()
        try:
            yield
        finally:
            self._held.discard(demand)

    def _work(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """Turn after turn, while there is anybody to work for."""
        timing = self._workspace.timing
        while self._waiting or self._held:
            try:
                await self._turn()
            except LedgerUnavailable as error:
                log.warning("The ledger does not answer; demands and grants stay: %s", error)
                await asyncio.sleep(_AGAIN_S)
            except Exception:
                log.exception("Waiting grants could not be asked for; trying again in %.0f s", _AGAIN_S)
                await asyncio.sleep(_AGAIN_S)
            await asyncio.sleep(timing.poll_s)

    async def _turn(self) -> None:
        asked = tuple(self._waiting)
        if asked:
            answers, now = await in_ledger_pool(_asked, self._workspace, asked)
            for demand in asked:
                if demand in self._waiting:
                    self._waiting[demand].put_nowait((answers.get(demand, GONE), now))
        if self._held and time.monotonic() - self._renewed_at >= self._workspace.timing.renew_s:
            held = tuple(sorted(self._held))
            kept = await in_ledger_pool(keep, self._workspace, held)
            self._renewed_at = time.monotonic()
            for demand in (set(held) - kept) & self._held:
                self._held.discard(demand)
                log.error("Grant %s was taken away: what runs now uses a share that may be another's", demand)


def _asked(workspace: Workspace, demands: tuple[str, ...]) -> tuple[dict[str, Answer], float]:
    """Ask once, and take over the leases of those that were granted until their tasks resume."""
    answers = ask(workspace, waiting=demands)
    granted = [demand for demand, answer in answers.items() if isinstance(answer, Lease)]
    if granted:
        keep(workspace, granted)
    return answers, workspace.ledger.now()


_desks: dict[tuple[int, str], tuple[asyncio.AbstractEventLoop, Desk]] = {}


def desk_of(workspace: Workspace) -> Desk:
    """Return the desk of a workspace in the running event loop; `dag.test()` makes a loop for each trigger."""
    loop = asyncio.get_running_loop()
    for key in [key for key, (known, _) in _desks.items() if known.is_closed()]:
        del _desks[key]
    return _desks.setdefault((id(loop), workspace.follower), (loop, Desk(workspace)))[1]
