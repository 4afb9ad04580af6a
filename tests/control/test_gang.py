"""Tests of following a job of several members, with a fake runtime and a real ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes.runtime import FakeRuntime
from fixtures_workspace import job_spec

from airflow_dla.control import Follow, Listener, Workspace, begun, following, run_round
from airflow_dla.control.gang import Gang, Member
from airflow_dla.errors import InvalidSpec, NotReady
from airflow_dla.ledger import Attempt
from airflow_dla.specs import AttemptState, ExitReason, JobSpec, Node


@dataclass
class Heard:
    """What a listener was told."""

    lines: list[str] = field(default_factory=list)
    ended: list[Attempt] = field(default_factory=list)

    def listener(self) -> Listener:
        """Return the listener that fills this."""
        return Listener(log=self.lines.append, ended=self.ended.append)


def spread(nodes: Any = 2, **more: Any) -> JobSpec:
    """Return a job of several members."""
    how = {name: more.pop(name) for name in ("nproc", "max_restarts", "shrink_after") if name in more}
    return begun(job_spec(distributed={"nodes": nodes, **how}, **more), "task 't'")


def begin(workspace: Workspace, spec: JobSpec | None = None, **more: Any) -> tuple[Gang, Heard]:
    """Open an attempt and follow it."""
    heard = Heard()
    gang = following(workspace, workspace.ledger.open_attempt(spec or spread()), heard.listener(), **more)
    assert isinstance(gang, Gang)
    return gang, heard


def step(gang: Follow, times: int = 1, *, later_s: float = 0.0) -> None:
    """Let rounds and steps happen."""
    ledger = gang.workspace.ledger
    for _ in range(times):
        run_round(gang.workspace)
        if not gang.over:
            gang.step(ledger.attempts([gang.attempt.id])[gang.attempt.id], ledger.now() + later_s)


def running(workspace: Workspace, spec: JobSpec | None = None, **more: Any) -> tuple[Gang, Heard, str, str]:
    """Return a gang of two that runs, and the ids of its members' attempts."""
    gang, heard = begin(workspace, spec, **more)
    step(gang, 4)
    first, second = gang.ids
    assert [found.state for found in workspace.ledger.attempts(gang.ids).values()] == [AttemptState.RUNNING] * 2
    return gang, heard, first, second


def test_all_are_granted_before_any_is_launched(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """While there is room for one member of two nothing is granted and nothing starts."""
    hog, _ = begin(workspace, spread())
    step(hog, 4)
    assert len(fake_runtime.submits) == 2
    gang, _ = begin(workspace, begun(job_spec("big", distributed={"nodes": 2}, request={"cpu": 1.5}), "big"))
    step(gang, 4)
    assert gang.attempt.state is AttemptState.WAITING
    assert len(fake_runtime.submits) == 2
    for attempt in hog.ids:
        fake_runtime.end(attempt)
    step(hog, 2)
    step(gang, 4)
    assert fake_runtime.submits[2:] == list(gang.ids)


def test_members_are_told_where_the_first_is(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """The first is launched first; the others are told the address in its handle, if its place says one."""
    _, heard, first, second = running(workspace, spread(nproc=2))
    told = [fake_runtime.attempts[one].launch.job.part for one in (first, second)]
    assert [(part.node_rank, part.first_rank, part.world_size, part.run_id) for part in told if part] == [
        (0, 0, 4, first),
        (1, 2, 4, first),
    ]
    assert fake_runtime.attempts[second].launch.job.checkpoint == first.partition(".")[0]
    assert any(line.startswith("[member 1] Launched") for line in heard.lines)


def test_a_place_without_addresses_is_refused(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """Members that could never meet are not left to wait for each other."""
    fake_runtime.address = ""
    gang, heard = begin(workspace)
    step(gang, 6)
    (last,) = heard.ended
    assert last.exit is not None
    assert last.exit.reason is ExitReason.REFUSED
    assert any("tells no address where other members could reach it" in line for line in heard.lines)
    assert len(fake_runtime.submits) == 1
    assert workspace.ledger.leases() == ()


def test_the_end_comes_when_all_have_ended(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A success of the first is no success before the others', and every grant comes back."""
    gang, heard, first, second = running(workspace)
    fake_runtime.end(first, metrics={"loss": 0.5})
    step(gang, 3)
    assert heard.ended == []
    assert workspace.ledger.attempts([first])[first].state is AttemptState.RUNNING
    fake_runtime.end(second)
    step(gang, 2)
    (last,) = heard.ended
    assert last.exit is not None
    assert (last.exit.succeeded, last.exit.metrics) == (True, {"loss": 0.5})
    assert workspace.ledger.leases() == ()
    assert fake_runtime.cancels == []


@pytest.mark.parametrize("reason", [ExitReason.USER_ERROR, ExitReason.OUT_OF_MEMORY, ExitReason.KILLED])
def test_one_that_fails_takes_the_others_along(workspace: Workspace, fake_runtime: FakeRuntime, reason: ExitReason) -> None:
    """The whole ends for the reason of the member that failed, with what the first made left out."""
    gang, heard, first, second = running(workspace)
    fake_runtime.end(second, reason, message="no data")
    step(gang, 4)
    (last,) = heard.ended
    assert last.exit is not None
    assert (last.exit.reason, last.exit.message) == (reason, "member 1: no data")
    assert fake_runtime.cancels[0] == (first, ExitReason.LOST)
    assert workspace.ledger.leases() == ()


def test_a_kill_counts_more_than_what_it_broke(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """The first fails since another was killed: the kill is the reason."""
    fake_runtime.obedient = False
    gang, heard, first, second = running(workspace)
    fake_runtime.end(first, ExitReason.USER_ERROR, message="connection closed", ended_at=1.0)
    step(gang, 2)
    fake_runtime.end(second, ExitReason.KILLED, message="by SIGKILL", ended_at=2.0)
    step(gang, 2)
    (last,) = heard.ended
    assert last.exit is not None
    assert (last.exit.reason, last.exit.message) == (ExitReason.KILLED, "member 1: by SIGKILL")


def test_restarts_are_counted(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """After max_restarts the failure is told; each start has another gang, other attempts and another port."""
    gang, heard = begin(workspace, spread(max_restarts=1))
    parts = []
    for _ in range(2):
        step(gang, 4)
        parts += [fake_runtime.attempts[one].launch.job.part for one in gang.ids]
        fake_runtime.end(gang.members[1].attempt.id, ExitReason.USER_ERROR)
        step(gang, 4)
    assert heard.ended[0].number == 2
    assert [(part.run_id, part.restarts) for part in parts if part] == [
        (one.format(gang.attempt.job), count) for one, count in (("{}.1", 0), ("{}.1", 0), ("{}.2", 1), ("{}.2", 1))
    ]
    assert len({part.port for part in parts if part}) == 2
    assert workspace.ledger.leases() == ()


def test_a_lost_member_uses_up_no_restart(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A loss counts against infra_retries, whichever member was lost."""
    gang, heard, _, second = running(workspace)
    fake_runtime.lose(second)
    step(gang, 9)
    assert (gang.attempt.number, gang.attempt.spec.lineage["infra_retry"], heard.ended) == (2, 1, [])
    assert len(gang.ids) == 2


def test_a_stop_while_it_waits(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """No member is left waiting."""
    gang, heard = begin(workspace, spread(request={"cpu": 3}))
    step(gang, 2)
    gang.stop(ExitReason.STOPPED)
    step(gang, 2)
    assert heard.ended[0].exit is not None
    assert heard.ended[0].exit.reason is ExitReason.STOPPED
    assert [found.ended for found in workspace.ledger.attempts(gang.ids).values()] == [True, True]
    assert workspace.ledger.snapshot().pending == ()
    assert fake_runtime.submits == []


@pytest.mark.parametrize("steps", range(6))
def test_a_follower_that_dies_at_any_step_is_replaced(workspace: Workspace, fake_runtime: FakeRuntime, steps: int) -> None:
    """Another one that knows only the first attempt brings the whole to its end; nothing starts twice."""
    gang, _ = begin(workspace)
    step(gang, steps)
    again, heard = begin(workspace, gang.attempt.spec)
    step(again, 5)
    assert sorted(fake_runtime.submits) == sorted(again.ids)
    fake_runtime.end(again.ids[1])
    step(again, 1)
    third, heard = begin(workspace, gang.attempt.spec)
    fake_runtime.end(third.attempt.id)
    step(third, 3)
    assert heard.ended[0].exit is not None
    assert heard.ended[0].exit.succeeded
    assert heard.ended[0].number == 1
    assert workspace.ledger.leases() == ()


def test_what_is_left_of_an_earlier_try_ends_first(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A member that outlived its first is stopped before the next start's opens, and its result is not taken."""
    fake_runtime.obedient = False
    _, _, first, second = running(workspace)
    fake_runtime.end(first, ExitReason.USER_ERROR)
    workspace.ledger.finish(first, fake_runtime.attempts[first].exit)  # as a reaper would
    again, heard = begin(workspace, spread(lineage={"try": 2}))
    step(again, 3)
    assert again.attempt.number == 2
    assert (second, ExitReason.LOST) in fake_runtime.cancels
    assert again.attempt.state is AttemptState.WAITING
    fake_runtime.end(second)
    step(again, 5)
    assert again.attempt.state is AttemptState.RUNNING
    assert again.ids[1] != second
    for attempt in again.ids:
        fake_runtime.end(attempt)
    step(again, 2)
    assert heard.ended[0].exit is not None
    assert heard.ended[0].exit.succeeded


def test_leases_of_all_are_renewed_and_offsets_of_all_saved(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A crew renews what `ids` names and saves what `offsets` says."""
    gang, heard, first, second = running(workspace)
    fake_runtime.write(second, b"epoch 1\n")
    step(gang)
    assert gang.ids == (first, second)
    assert gang.offsets[second] == 8
    assert "[member 1] epoch 1" in heard.lines


def test_fewer_when_there_is_no_room_for_most(workspace: Workspace) -> None:
    """As many members as a round would grant, once it has waited; with room again a restart asks for the most."""
    workspace.ledger.open_attempt(job_spec("hog", request={"cpu": 2}))
    run_round(workspace)
    gang, heard = begin(workspace, spread("1-4", shrink_after=60, request={"cpu": 1}))
    step(gang, 3)
    assert (gang.attempt.number, gang.attempt.spec.policy.gang_size) == (1, 4)
    step(gang, later_s=61)
    step(gang, 4)
    assert (gang.attempt.number, gang.attempt.spec.policy.gang_size, len(gang._of_this_start())) == (2, 2, 1)
    assert gang.attempt.state is AttemptState.RUNNING
    assert any("no room for 4 members after 61 s: it asks for 2" in line for line in heard.lines)
    workspace.runtime("fake").lose(gang.attempt.id)  # type: ignore[attr-defined]
    step(gang, 5)
    assert (gang.attempt.number, gang.attempt.spec.policy.gang_size) == (3, 4)


def test_not_fewer_than_the_fewest(workspace: Workspace) -> None:
    """Where not even those fit it goes on waiting for the most."""
    workspace.ledger.open_attempt(job_spec("hog", request={"cpu": 3}))
    run_round(workspace)
    gang, _ = begin(workspace, spread("2-4", shrink_after=60))
    step(gang, 2)
    step(gang, later_s=61)
    assert (gang.attempt.number, gang.attempt.state) == (1, AttemptState.WAITING)


def test_a_place_that_takes_its_time(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """While the first is not ready the others wait with their grants; then all run."""
    gang, _ = begin(workspace)
    step(gang, 1)
    fake_runtime.break_down(NotReady("pulling the image"))
    step(gang, 2)
    assert gang.attempt.state is AttemptState.LAUNCHING
    fake_runtime.break_down(None)
    step(gang, 3)
    assert fake_runtime.submits == list(gang.ids)


def test_who_follows_what(workspace: Workspace) -> None:
    """One member of several is followed as such; a job spread over one node as any job."""
    gang, _ = begin(workspace)
    step(gang)
    member = workspace.ledger.attempts([gang.ids[1]])[gang.ids[1]]
    assert type(following(workspace, member, Listener())) is Member
    alone = workspace.ledger.open_attempt(begun(job_spec("alone", distributed={"nproc": 2}), "alone"))
    assert type(following(workspace, alone, Listener())) is Follow


def test_one_gang_is_enough() -> None:
    """A job that is spread cannot stand in a gang of tasks as well."""
    with pytest.raises(InvalidSpec, match=r"distributed= makes a gang of its nodes, so policy\.gang \('both'\) cannot name another"):
        spread(policy={"gang": "both", "gang_size": 2})


def test_a_process_for_each_gpu_needs_gpus() -> None:
    """It is said what to ask for, before anything waits."""
    with pytest.raises(InvalidSpec, match="may be granted none; ask for some with request="):
        spread(nproc="gpu", request={"gpu": "0-2"})
    assert spread(nproc="gpu", request={"gpu": "1-2"}).policy.gang_size == 2


def test_all_members_are_followed_by_the_same_kind(workspace: Workspace) -> None:
    """When a trigger takes the first over, the time without a follower counts alike for all."""
    gang, _ = begin(workspace)
    step(gang, 4)
    heard = Heard()
    first = workspace.ledger.open_attempt(gang.attempt.spec, deferred=True)
    again = following(workspace, first, heard.listener())
    step(again)
    assert [found.deferred for found in workspace.ledger.attempts(gang.ids).values()] == [True, True]


def test_a_node_too_small_is_no_reason_to_wait(workspace: Workspace) -> None:
    """Where the most could never fit together fewer are asked for at once."""
    workspace.ledger.register_node(Node(name="fake", capacity={"cpu": 1.0, "memory": 8.0}, cpu_ids=(0,)), host="here")
    gang, _ = begin(workspace, spread("1-2", shrink_after=3600))
    step(gang, 5)
    assert (gang.attempt.spec.policy.gang_size, gang.attempt.state) == (1, AttemptState.RUNNING)
