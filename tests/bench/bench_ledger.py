"""What the ledger costs: rounds, attempts, and 8 processes that race for grants.

Usage: ``python tests/bench/bench_ledger.py [rounds] [attempts] [race] [--sqlite] [--postgres]``
(with the repository's root and ``tests`` on PYTHONPATH).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts.ledger import first_come, job, node
from fixtures_postgres import PostgresServer, binaries
from ledger.contenders import account, run
from ledger.test_concurrency import most_held
from sqlalchemy import insert

from airflow_dla.ledger import Decision, Snapshot, SqlLedger, connect
from airflow_dla.ledger.schema import demands
from airflow_dla.specs import Exit, ExitReason, Grant, Reason


def say(text: str) -> None:
    """Write a line of the report."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def ledgers(wanted: list[str]) -> Iterator[dict[str, Callable[[], SqlLedger]]]:
    """Yield, by name of the database, functions that make fresh ledgers."""
    server = PostgresServer(found) if "--sqlite" not in wanted and (found := binaries()) else None
    with tempfile.TemporaryDirectory(prefix="dla-bench-") as folder:
        makers: dict[str, Callable[[], SqlLedger]] = {}
        if "--postgres" not in wanted:
            makers["sqlite"] = lambda: upgraded(f"sqlite:///{tempfile.mkdtemp(dir=folder)}/ledger.db")
        if server is not None:
            makers["postgresql"] = lambda: upgraded(server.url(server.create()))
        try:
            yield makers
        finally:
            if server is not None:
                server.remove()


def upgraded(url: str) -> SqlLedger:
    """Return a new ledger; its URL is kept for the processes of the race."""
    ledger = connect(url)
    ledger.upgrade()
    ledger.bench_url = url  # type: ignore[attr-defined]
    return ledger


def timed(work: Callable[[], object], times: int = 5) -> tuple[float, float]:
    """Return the least CPU and wall milliseconds of some runs, this process alone."""
    runs = []
    for _ in range(times):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        runs.append(((time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3))
    return min(run[0] for run in runs), min(run[1] for run in runs)


def fill(ledger: SqlLedger, count: int) -> None:
    """Write waiting demands with a hundred different requests, all at once."""
    rows = [
        {"id": f"d{i:06}", "job": False, "request": f'{{"cpu":{1 + i % 100}}}', "place": "any", "team": "default",
         "priority": 0, "weight": 1.0, "created_at": float(i), "preemptible": False, "gang_size": 1}
        for i in range(count)
    ]  # fmt: skip
    ledger._db.exclusive(lambda tx: tx.connection.execute(insert(demands), rows))


def explain_all(snapshot: Snapshot, turn: int) -> Decision:
    """Grant nothing, with a reason for everybody that differs from turn to turn."""
    reasons = {one.id: Reason(binding="cpu", position=index + 1, shortfall=turn, text="x") for index, one in enumerate(snapshot.pending)}
    return Decision(reasons=reasons)


def grant_all(snapshot: Snapshot) -> Decision:
    """Grant everything."""
    return Decision(grants={one.id: Grant(id=one.id, node="n", amounts={"cpu": 1}) for one in snapshot.pending})


def rounds(name: str, make: Callable[[], SqlLedger]) -> None:
    """Measure rounds by what they do, with a decision made beforehand."""
    for count in (100, 1_000, 10_000):
        ledger = make()
        fill(ledger, count)
        for what, (cpu, wall) in round_figures(ledger).items():
            say(f"{name:11} {count:6} pending: {what:24} {cpu:8.1f} ms CPU {wall:8.1f} ms wall")
        ledger.close()


def round_figures(ledger: SqlLedger) -> dict[str, tuple[float, float]]:
    """Return the milliseconds of rounds over what waits in a ledger."""
    ledger.register_node(node(cpu=1e6))
    seen: list[Snapshot] = []

    def forced(decide: Callable[[Snapshot], Decision]) -> Callable[[], object]:
        return lambda: ledger.round(decide, holder="h", lease_s=60, force=True)

    forced(lambda snapshot: seen.append(snapshot) or Decision())()
    decisions = iter([explain_all(seen[0], turn) for turn in range(5)])
    same, every = explain_all(seen[0], 4), grant_all(seen[0])
    return {
        "read": timed(forced(lambda _: Decision())),
        "read, every reason new": timed(forced(lambda _: next(decisions))),
        "read, no reason new": timed(forced(lambda _: same)),
        "skipped": timed(lambda: ledger.round(lambda _: same, holder="h", lease_s=60)),
        "read, all granted": timed(forced(lambda _: every), times=1),
    }


def attempts(name: str, make: Callable[[], SqlLedger]) -> None:
    """Measure attempts opened, and opened, granted, launched and ended, one after the other."""
    ledger = make()
    ledger.register_node(node(cpu=1e6))
    count, began, cpu = 200, time.perf_counter(), time.process_time()
    opened = [ledger.open_attempt(job(f"t{index}")) for index in range(count)]
    per_second = count / (time.perf_counter() - began)
    say(f"{name:11} open_attempt {per_second:7.0f} /s wall {(time.process_time() - cpu) / count * 1e3:6.2f} ms CPU each")
    ledger.round(first_come, holder="h", lease_s=60)
    began, cpu = time.perf_counter(), time.process_time()
    for attempt in opened:
        ledger.begin_launch(attempt.id, holder="h", lease_s=60)
        ledger.record_launch(attempt.id, {"pid": 1})
    per_second = count / (time.perf_counter() - began)
    say(f"{name:11} launch (2 tx) {per_second:6.0f} /s wall {(time.process_time() - cpu) / count * 1e3:6.2f} ms CPU each")
    ids = [attempt.id for attempt in opened]
    for what, work in {
        "renew 200": lambda: ledger.renew(ids, holder="h", lease_s=60),
        "read 200": lambda: ledger.attempts(ids),
        "idle round": lambda: ledger.round(first_come, holder="h", lease_s=60),
    }.items():
        say("{:11} {:13} {:6.2f} ms CPU {:6.2f} ms wall".format(name, what, *timed(work)))
    began, cpu = time.perf_counter(), time.process_time()
    for attempt in opened:
        ledger.finish(attempt.id, Exit(reason=ExitReason.SUCCEEDED))
    per_second = count / (time.perf_counter() - began)
    say(f"{name:11} finish       {per_second:7.0f} /s wall {(time.process_time() - cpu) / count * 1e3:6.2f} ms CPU each")
    ledger.close()


def race(name: str, make: Callable[[], SqlLedger], *, processes: int = 8, capacity: int = 3) -> None:
    """Let 8 processes take and release grants, 2,000 times each or what DLA_RACE says, and check both accounts."""
    times = int(os.environ.get("DLA_RACE", "2000"))
    ledger = make()
    ledger.register_node(node(cpu=capacity))
    with tempfile.TemporaryDirectory() as folder:
        books = Path(folder) / "books"
        began = time.perf_counter()
        run("race", processes, ledger.bench_url, books, times)  # type: ignore[attr-defined]
        wall = time.perf_counter() - began
        used, most = account(books, 0)
    most_ever, grants = most_held(ledger)
    assert used == 0
    assert max(most, most_ever) <= capacity
    assert grants == processes * times
    say(f"{name:11} race: {processes} processes took {grants} grants in {wall:.1f} s, {grants / wall:.0f} /s")
    say(f"{name:11} race: most held {most_ever} of {capacity} by the history, {most} by the processes' own books")
    ledger.close()


def main() -> None:
    """Run the parts that are named, or all."""
    parts = {"rounds": rounds, "attempts": attempts, "race": race}
    wanted = [name for name in sys.argv[1:] if name in parts] or list(parts)
    with ledgers(sys.argv[1:]) as makers:
        for part in wanted:
            for name, make in makers.items():
                parts[part](name, make)


if __name__ == "__main__":
    main()
