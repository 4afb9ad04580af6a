"""Admissions that meet: whoever is first works for all, and nothing is lost between two that write at once."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from contracts.ledger import demand, first_come, node, refuse_all
from sqlalchemy import text

from airflow_dla.errors import NotFound
from airflow_dla.ledger import Lease, SqlLedger, connect, rounds
from airflow_dla.ledger.transaction import Transaction

pytestmark = pytest.mark.postgres


@pytest.fixture
def two(postgres_url: str) -> Any:
    """Return two ledgers on one database, with a node of four CPUs."""
    both = connect(postgres_url), connect(postgres_url)
    both[0].register_node(node())
    yield both
    for ledger in both:
        ledger.close()


def meanwhile(work: Callable[[], object]) -> threading.Thread:
    """Start to work in another thread."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until(ledger: SqlLedger, query: str) -> None:
    """Wait until a query finds something."""
    deadline = time.monotonic() + 20
    while not ledger._db.read(lambda tx: tx.connection.execute(text(query)).first()):
        assert time.monotonic() < deadline, f"nothing came of {query}"


def test_one_works_for_all(two: tuple[SqlLedger, SqlLedger]) -> None:
    """Who comes while a round is about to read is granted by it, and decides nothing."""
    one, other = two
    answers: dict[str, Any] = {}

    def lead(tx: Transaction) -> None:
        assert tx.leads
        thread.append(meanwhile(lambda: answers.update(other.admit([demand("x")], refuse_all, holder="other", lease_s=60))))
        until(one, "SELECT 1 FROM dla_demands")
        rounds.settle(tx, first_come, holder="one", lease_s=60)

    thread: list[threading.Thread] = []
    one._db.exclusive(lead)
    thread[0].join()
    assert isinstance(answers["x"], Lease)
    assert answers["x"].holder == "one"


def test_who_came_too_late_for_a_round_runs_the_next(two: tuple[SqlLedger, SqlLedger]) -> None:
    """A demand that a round has not read is decided about by whoever wrote it."""
    one, other = two
    answers: dict[str, Any] = {}

    def lead(tx: Transaction) -> None:
        rounds.settle(tx, first_come, holder="one", lease_s=60)
        thread.append(meanwhile(lambda: answers.update(other.admit([demand("x")], first_come, holder="other", lease_s=60))))
        until(one, "SELECT 1 FROM dla_demands")

    thread: list[threading.Thread] = []
    one._db.exclusive(lead)
    thread[0].join()
    assert answers["x"].holder == "other"


def test_cancelled_while_it_is_granted(two: tuple[SqlLedger, SqlLedger]) -> None:
    """A demand that is released at the moment of its grant leaves no grant behind."""
    one, other = two
    one.request(demand("x"))

    def lead(tx: Transaction) -> None:
        rounds.settle(tx, first_come, holder="one", lease_s=60)
        tx.send()
        thread.append(meanwhile(lambda: other.release(["x"])))
        until(one, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")

    thread: list[threading.Thread] = []
    one._db.exclusive(lead)
    thread[0].join()
    assert one.leases() == ()
    with pytest.raises(NotFound):
        one.answer("x")


def test_asked_again_while_it_was_granted(two: tuple[SqlLedger, SqlLedger]) -> None:
    """A request that was sent twice, the second time while its grant was written, is granted once."""
    one, other = two
    one.request(demand("x"))

    def lead(tx: Transaction) -> None:
        rounds.settle(tx, first_come, holder="one", lease_s=60)
        tx.send()
        thread.append(meanwhile(lambda: other.request(demand("x"))))
        until(one, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")

    thread: list[threading.Thread] = []
    one._db.exclusive(lead)
    thread[0].join()
    assert isinstance(one.answer("x"), Lease)
    assert not one.round(first_come, holder="h", lease_s=60).granted
    one.release(["x"])
    with pytest.raises(NotFound):
        one.answer("x")
