"""Following a job of several members as one.

The first member is followed as any job is; the others beside it, each by a `Member`.

=========== ==================================================================
waiting     the others' demands are written; all wait as one gang. When the most
            members wait too long and fewer would do, the attempt makes way for
            one that asks for as many as there is room for.
granted     all at once, by one round; the first is launched, then, since they
            must know where it is, the others
running     the first that ends other than well takes all others along
ended       when nothing runs any more: the first's end says what ended the whole
            (`verdict`). All begin again as new attempts inside one Airflow try, or not.
=========== ==================================================================

Nothing is remembered here: a follower that dies is replaced by one that finds the
members in the ledger.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Final

from airflow_dla.control.follow import Follow, Listener
from airflow_dla.control.membership import grouped, member_key, member_spec, parts_of, verdict, with_members
from airflow_dla.control.rounds import decide
from airflow_dla.control.workspace import Workspace
from airflow_dla.ledger import Attempt
from airflow_dla.specs import AttemptState, Exit, ExitReason, JobSpec, Part

#: Seconds between two looks whether there is room for fewer members.
_LOOK_S: Final = 5.0


class Member(Follow):
    """Follows one attempt of a member other than the first; what comes of its end is the gang's to say.

    Attributes
    ----------
    part : `Part` or None
        What it is told at its launch; it waits for that.
    """

    part: Part | None = None

    def _launch(self) -> None:
        if self.part is not None or self.attempt.stop is not None:
            super()._launch()

    def _part(self) -> Part | None:
        return self.part

    def _next(self) -> JobSpec | None:
        return None


class Gang(Follow):
    """Follows a distributed job; takes what `Follow` takes."""

    def __init__(self, workspace: Workspace, attempt: Attempt, listener: Listener, **more: Any) -> None:
        super().__init__(workspace, attempt, listener, **more)
        self.members: dict[int, Member] = {}
        self._gathered = ""
        self._fewer: int | None = None
        self._looked_at = float("-inf")

    # --- what a crew asks ---

    @property
    def ids(self) -> tuple[str, ...]:
        """The attempts whose leases are renewed: those of all members."""
        return (self.attempt.id, *(member.attempt.id for member in self.members.values()))

    @property
    def offsets(self) -> dict[str, int]:
        """How far the logs of all members have been passed on."""
        return {self.attempt.id: self.offset, **{member.attempt.id: member.offset for member in self.members.values()}}

    @property
    def eager(self) -> bool:
        """Whether something is about to happen to any member."""
        return super().eager or any(member.eager for member in self._live())

    def step(self, attempt: Attempt, now: float) -> None:
        """Do what is due for each member, and what the fate of one means for the others."""
        self.attempt = attempt
        self._gather()
        self._step_members(now)
        super().step(self.attempt, now)
        if not self.over and not self.attempt.ended:
            self._share_fate()
            self._ask_for_fewer(now)

    def stop(self, reason: ExitReason) -> None:
        """Ask for the end of all members."""
        try:
            super().stop(reason)
        finally:
            for member in self._live():
                member.stop(reason)

    # --- members ---

    def _live(self) -> list[Member]:
        return [member for member in self.members.values() if not member.attempt.ended]

    def _of_this_start(self) -> list[Attempt]:
        found = [member.attempt for _, member in sorted(self.members.items())]
        return [attempt for attempt in found if attempt.spec.lineage.get("of") == self.attempt.id]

    def _gather(self) -> None:
        """Find the members of this attempt, or open them once those of an earlier one have ended."""
        if self._gathered == self.attempt.id:
            return
        first, ledger, earlier = self.attempt, self.workspace.ledger, False
        assert first.spec.distributed is not None
        wanted = first.spec.policy.gang_size if first.state in {AttemptState.WAITING, AttemptState.GRANTED} and first.stop is None else 0
        for number in range(1, first.spec.distributed.most):
            last = ledger.last_attempt(member_key(first.spec.key, number).id)
            mine = last is not None and last.spec.lineage.get("of") == first.id
            if last is not None and not mine and not last.ended:
                earlier = True
                last = ledger.want_stop(last.id, ExitReason.LOST, why=f"{first.id} begins without it")
            elif not mine and number < wanted:
                last, mine = self._opened(number, last), True
            if last is not None and (mine or not last.ended):
                if last.deferred != first.deferred:
                    ledger.set_deferred(last.id, deferred=first.deferred)
                self._follow_member(number, last)
        if not earlier:
            self._gathered = first.id

    def _opened(self, number: int, last: Attempt | None) -> Attempt:
        first, ledger = self.attempt, self.workspace.ledger
        if last is not None:
            ledger.deliver(last.id)  # one that succeeded would be taken for this one's result
        return ledger.open_attempt(member_spec(first, number), node=first.spec.lineage.get("pinned"), deferred=first.deferred)

    def _follow_member(self, number: int, attempt: Attempt) -> None:
        known = self.members.get(number)
        if known is None or known.attempt.id != attempt.id:
            listener = self.listener.marked(f"[member {number}] ")
            self.members[number] = Member(self.workspace, attempt, listener, secrets=self._secrets)

    def _step_members(self, now: float) -> None:
        live = [member for member in self.members.values() if not member.over]
        if not live:
            return
        self._tell_parts()
        found = self.workspace.ledger.attempts([member.attempt.id for member in live])
        for member in live:
            member.step(found[member.attempt.id], now)

    def _tell_parts(self) -> None:
        """Tell the others what they are, once the first runs."""
        others = self._of_this_start()
        if self.attempt.state is not AttemptState.RUNNING:
            return
        if others and "address" not in (self.attempt.handle or {}):
            self._refuse("its place tells no address where other members could reach it; give nodes=1 and nproc, or another place")
        elif all(one.grant is not None for one in others):
            told = parts_of(self.attempt, others, self.attempt.handle)
            for part in told[1:]:
                self.members[part.node_rank].part = part

    def _refuse(self, why: str) -> None:
        if self.attempt.stop is None:
            self._say(f"Refused: {why}")
            self.attempt = self.workspace.ledger.want_stop(self.attempt.id, ExitReason.REFUSED, why=why)

    def _share_fate(self) -> None:
        """Stop all when one is to stop or has ended other than well."""
        others = self._of_this_start()
        ended = [one for one in others if one.exit is not None and not one.exit.succeeded]
        stopped = [one for one in others if one.stop not in {None, ExitReason.LOST}]
        if self.attempt.stop is None and (ended or stopped):
            why = (stopped or ended)[0]
            reason = why.stop or ExitReason.LOST
            text = why.stop_why or f"member {why.spec.key.member} ended: {why.exit.message if why.exit else reason.value}"
            self.attempt = self.workspace.ledger.want_stop(self.attempt.id, reason, why=text)
        if self.attempt.stop is not None:
            self._stop_members(self.attempt.stop, self.attempt.stop_why)

    def _stop_members(self, reason: ExitReason, why: str) -> None:
        for member in self._live():
            if member.attempt.stop is None:
                member.attempt = self.workspace.ledger.want_stop(member.attempt.id, reason, why=why)

    # --- the first member ---

    def _launch(self) -> None:
        ready = self._gathered == self.attempt.id and len(self._of_this_start()) == self.attempt.spec.policy.gang_size - 1
        granted = ready and all(one.grant is not None and not one.ended for one in self._of_this_start())
        if granted or self.attempt.stop is not None or self.attempt.state is AttemptState.LAUNCHING:
            super()._launch()

    def _part(self) -> Part | None:
        return parts_of(self.attempt, self._of_this_start())[0]

    def _finish(self, exit_: Exit) -> None:
        """End the first member in the ledger when no other runs any more: only then is it known what ended the whole."""
        if not exit_.succeeded:
            self._stop_members(self.attempt.stop or ExitReason.LOST, f"the first member ended: {exit_.message or exit_.reason.value}")
        if not self._live():
            super()._finish(verdict(self.attempt, exit_, self._of_this_start()))

    def _end(self) -> None:
        self._stop_members(self.attempt.stop or ExitReason.LOST, "the first member ended")
        if not self._live():
            super()._end()

    def _next(self) -> JobSpec | None:
        first = self.attempt
        assert first.exit is not None
        assert first.spec.distributed is not None
        said = dataclasses.replace(first, exit=verdict(first, first.exit, self._of_this_start()))
        spec = super()._next_of(said)
        members, self._fewer = self._fewer or first.spec.distributed.most, None
        return None if spec is None else grouped(spec, members, f"after{first.number}")

    # --- fewer members ---

    def _ask_for_fewer(self, now: float) -> None:
        """Let the attempt make way for one of fewer members, when it has waited long enough and there is room for them."""
        first, how = self.attempt, self.attempt.spec.distributed
        assert how is not None
        waits = first.state is AttemptState.WAITING and first.stop is None and self._gathered == first.id
        never = first.reason is not None and first.reason.never
        if not waits or first.spec.policy.gang_size == how.fewest or (now - first.created_at < how.shrink_after_s and not never):
            return
        if time.monotonic() - self._looked_at < _LOOK_S:
            return
        self._looked_at = time.monotonic()
        self._fewer = self._room_for(how.fewest)
        if self._fewer is not None:
            why = f"no room for {first.spec.policy.gang_size} members after {now - first.created_at:.0f} s: it asks for {self._fewer}"
            self.attempt = self.workspace.ledger.want_stop(first.id, ExitReason.PREEMPTED, why=why)
            self._end()

    def _room_for(self, fewest: int) -> int | None:
        """Return how many members a round would grant now, None if not the fewest."""
        ids = [self.attempt.id, *(one.id for one in self._of_this_start())]
        snapshot = self.workspace.ledger.snapshot()
        for members in range(len(ids) - 1, fewest - 1, -1):
            granted = decide(with_members(snapshot, ids, members), self.workspace.policy).grants
            if all(one in granted for one in ids[:members]):
                return members
        return None


def following(workspace: Workspace, attempt: Attempt, listener: Listener, **more: Any) -> Follow:
    """Return what follows a job, of one member or of several; takes what `Follow` takes."""
    how = attempt.spec.distributed
    kind = Member if attempt.spec.key.member else Gang if how is not None and how.most > 1 else Follow
    return kind(workspace, attempt, listener, **more)
