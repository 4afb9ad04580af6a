"""``airflow dla jobs``, on jobs that really run."""

from __future__ import annotations

from typing import Any

from fixtures_workspace import job_spec
from jobs_here import ended, started

from airflow_dla.cli.reach import Reach
from airflow_dla.control import Listener, Workspace, begun, following, run_round
from airflow_dla.specs import ExitReason, Node

HERE = ("--conn-id", "dla_test")


def test_list_show_and_logs_of_a_job_that_ended(dla: Any, workspace: Workspace) -> None:
    """A job that ended is listed, shown with its end, and its log is printed without the runner's lines."""
    attempt = started(workspace, "print('hello from the job'); print('no newline', end='')")
    ended(workspace, attempt)
    (listed,) = dla("jobs", "list", *HERE, "--json").document["jobs"]
    assert (listed["job"], listed["state"], listed["exit"]["reason"]) == (attempt.job, "ended", "succeeded")
    assert dla("jobs", "list", "--state", "live", *HERE).out == "no job\n"
    assert dla("jobs", "show", attempt.job, *HERE, "--json").document == listed
    assert "succeeded" in dla("jobs", "show", attempt.id, *HERE).out
    assert dla("jobs", "logs", attempt.job, *HERE).out == "hello from the job\nno newline\n"
    assert dla("jobs", "logs", attempt.job, "-f", *HERE, "--json").document["lines"] == ["hello from the job", "no newline"]
    refused = dla("jobs", "logs", attempt.job, *HERE, "--stream", "stderr")
    assert (refused.status, refused.out) == (1, "")
    assert "does not tell standard error from standard output; leave --stream out" in refused.err


def test_stop_ends_a_job_that_nobody_follows(dla: Any, workspace: Workspace) -> None:
    """Stopping sees the job's end through, frees its grant, and may be repeated."""
    attempt = started(workspace, "import time; print('up', flush=True); time.sleep(60)")
    stopped = dla("jobs", "stop", attempt.job, *HERE, "--json")
    assert stopped.status == 0
    assert (stopped.document["state"], stopped.document["exit"]["reason"]) == ("ended", "stopped")
    assert not any(runtime.status(attempt.id).alive for runtime in workspace.runtimes.values())
    assert workspace.ledger.leases() == ()
    assert "ended: stopped" in dla("jobs", "stop", attempt.job, *HERE).out


def test_stop_a_job_that_waits(dla: Any, workspace: Workspace) -> None:
    """A job that was never launched ends at once."""
    attempt = workspace.ledger.open_attempt(job_spec())
    assert dla("jobs", "stop", attempt.job, *HERE, "--json").document["state"] == "ended"
    assert dla("jobs", "logs", attempt.job, *HERE).out == ""


def test_a_job_that_is_elsewhere(dla: Any, reach: Reach) -> None:
    """The log of another host's job is not here; its stop is written down for its follower."""
    reach.ledger.register_node(Node(name="elsewhere", capacity={"cpu": 1.0, "memory": 1.0}), host="elsewhere/boot/1")
    attempt = reach.ledger.open_attempt(job_spec(), node="elsewhere")
    workspace = reach.workspace()
    run_round(workspace)
    workspace.ledger.begin_launch(attempt.id, holder="x", lease_s=60)
    refused = dla("jobs", "logs", attempt.job, *HERE)
    assert refused.status == 1
    assert "node elsewhere" in refused.err
    assert "whoever follows it" in dla("jobs", "stop", attempt.job, *HERE).out
    assert reach.ledger.attempts([attempt.id])[attempt.id].stop is ExitReason.STOPPED


def test_a_job_that_is_not(dla: Any, connection: str) -> None:
    """An unknown job is refused by every command that names one."""
    for verb in (("show",), ("logs",), ("stop",), ("exec",), ("rerun", "--here")):
        ended = dla("jobs", *verb, "--conn-id", connection, "nobody")
        assert (ended.status, ended.out) == (1, "")
        assert "there is no job 'nobody'" in ended.err


def test_members_of_a_distributed_job_are_told_apart(dla: Any, workspace: Workspace) -> None:
    """Each is listed with its number, shown and stopped by its own id."""
    spec = begun(job_spec("spread", distributed={"nodes": 2}, request={"cpu": 0.1, "memory": "64MiB"}), "t")
    gang = following(workspace, workspace.ledger.open_attempt(spec), Listener())
    gang.step(gang.attempt, workspace.ledger.now())
    rows = dla("jobs", "list", *HERE).out.splitlines()[1:]
    assert sorted(" ".join(row.split()[1:5]) for row in rows) == ["d spread member 1", "d spread r 1"]
    listed = dla("jobs", "list", *HERE, "--json").document["jobs"]
    (member,) = [one["job"] for one in listed if one["key"].get("member")]
    assert "d.spread member 1 (r)" in dla("jobs", "show", member, *HERE).out
    assert member in dla("jobs", "show", gang.attempt.job, *HERE).out
