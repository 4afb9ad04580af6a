"""Many processes take and release grants at once and never hold more than there is.

The full count, 2,000 times in each of 8 processes, is run by ``tests/bench/bench_ledger.py race``.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from contracts.ledger import job, node
from ledger.contenders import account, run

from airflow_dla.ledger import SqlLedger, connect

_CAPACITY = 3


def most_held(ledger: SqlLedger) -> tuple[int, int]:
    """Return the most CPUs ever held by the history, and the number of grants."""
    held: dict[str, float] = {}
    most, grants = 0.0, 0
    for event in reversed(ledger.history(limit=1_000_000)):
        if event.kind == "grant.given":
            assert event.subject not in held
            held[event.subject] = event.data["amounts"]["cpu"]
            grants += 1
            most = max(most, sum(held.values()))
        elif event.kind == "grant.released":
            del held[event.subject]
    assert not held
    return int(most), grants


def test_never_more_than_there_is(ledger_url: str, tmp_path: Path) -> None:
    """By the history and by the processes' own account, capacity was reached and never exceeded."""
    ledger = connect(ledger_url)
    ledger.register_node(node(cpu=_CAPACITY))
    run("race", 8, ledger_url, tmp_path / "books", 12)
    used, most = account(tmp_path / "books", 0)
    assert used == 0
    assert most <= _CAPACITY
    assert most_held(ledger) == (_CAPACITY, 8 * 12)
    assert ledger.leases() == ()
    ledger.close()


def test_threads_share_a_ledger(ledger: SqlLedger) -> None:
    """Threads of one process use one ledger at once, as the triggers of a triggerer do."""

    def work(index: int) -> int:
        ledger.record("worked", str(index), {})
        return len(ledger.history(subject=str(index)))

    with ThreadPoolExecutor(max_workers=12) as threads:
        assert list(threads.map(work, range(48))) == [1] * 48
    assert len(ledger.history(kind="worked")) == 48


def test_one_attempt_for_a_task_however_many_open_it(ledger_url: str) -> None:
    """Of processes that open the same task's attempt at once, all get the same one."""
    assert run("open", 6, ledger_url, "train").split() == [f"{job('train').key.id}.1"] * 6
