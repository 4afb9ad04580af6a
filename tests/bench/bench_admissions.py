"""Admissions through the real ledger: inserted, granted by a round, answer read, released.

Eight processes ask a PostgreSQL of their own, with its default durability, for 1 to 4 of
1,000 CPUs at a time, each with one request in flight, then with 50. What is held is counted
twice: from the ledger's history, and by the clients in a locked file.

Usage: ``python tests/bench/bench_admissions.py [--seconds 10] [--clients 8] [--toy] [1] [50]``
(with the repository's root and ``tests`` on PYTHONPATH). ``--toy`` decides first come, first
served instead of as allocation rounds do: the difference is what deciding costs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contracts.ledger import first_come, node
from fixtures_postgres import PostgresServer, binaries
from ledger.contenders import account

from airflow_dla.allocation import Policy
from airflow_dla.control.rounds import decide
from airflow_dla.ledger import Decision, Lease, Ledger, Snapshot, connect
from airflow_dla.specs import Demand, Request

CAPACITY = 1000
REQUESTS = [Request.from_mapping({"cpu": cpu}) for cpu in (1, 2, 3, 4)]
_TICKS = os.sysconf("SC_CLK_TCK")


class Decider:
    """Decides by the default policy, or first come, and says what that took."""

    def __init__(self, *, toy: bool) -> None:
        self._toy, self._policy = toy, Policy()
        self.rounds, self.cpu_s, self.live, self.pending = 0, 0.0, 0, 0

    def __call__(self, snapshot: Snapshot) -> Decision:
        """Decide about what a round has read."""
        began = time.process_time()
        decision = first_come(snapshot) if self._toy else decide(snapshot, self._policy)
        self.cpu_s += time.process_time() - began
        self.rounds += 1
        self.live += len(snapshot.held)
        self.pending += len(snapshot.pending)
        return decision


def demands(client: int) -> Iterator[Demand]:
    """Yield requests for 1 to 4 CPUs."""
    chance = random.Random(client)
    number = 0
    while True:
        number += 1
        yield Demand(id=f"{client}-{number}", request=chance.choice(REQUESTS))


class Client:
    """Keeps so many requests in flight."""

    def __init__(self, index: int, url: str, books: Path, in_flight: int, *, toy: bool) -> None:
        self._ledger, self._coming, self._holder = connect(url), demands(index), f"client{index}"
        self._books, self._in_flight = books, in_flight
        self._waiting: set[str] = set()
        self.decide = Decider(toy=toy)

    def turn(self) -> int:
        """Fill up what is in flight, ask, use and release what was granted; return how many were."""
        wanted = [next(self._coming) for _ in range(self._in_flight - len(self._waiting))]
        answers = self._ledger.admit(wanted, self.decide, holder=self._holder, lease_s=60, waiting=self._waiting)
        held = [answer.grant for answer in answers.values() if isinstance(answer, Lease)]
        if held:
            cpus = int(sum(grant.amounts["cpu"] for grant in held))
            account(self._books, cpus)
            account(self._books, -cpus)
            self._ledger.release([grant.id for grant in held])
        else:
            time.sleep(0.005)
        self._waiting = set(answers) - {grant.id for grant in held}
        return len(held)

    def leave(self) -> None:
        """Let go of everything."""
        self._ledger.release(self._waiting)
        self._ledger.close()


def run_client(index: int, begin: Any, said: Any, seconds: float, arguments: tuple[Any, ...], *, toy: bool) -> None:
    """Work for so long, warmed up and at the same time as the others, and say what that took."""
    client = Client(index, *arguments, toy=toy)
    for _ in range(10):
        client.turn()
    client.decide = Decider(toy=toy)
    begin.wait()
    admitted, began, cpu, latencies = 0, time.perf_counter(), time.process_time(), []
    while time.perf_counter() - began < seconds:
        asked = time.perf_counter()
        admitted += client.turn()
        latencies.append(time.perf_counter() - asked)
    taken = {"admitted": admitted, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - began}
    decide = client.decide
    plans = {"rounds": decide.rounds, "plan_s": decide.cpu_s, "live": decide.live, "pending": decide.pending}
    said.put({**taken, **plans, "median_ms": sorted(latencies)[len(latencies) // 2] * 1e3})
    begin.wait()
    client.leave()


def server_cpu_s(server: PostgresServer) -> float:
    """Return the CPU seconds of a server and all its processes, those that ended too."""
    assert server._process is not None
    main = server._process.pid
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat.parent.name) == main:
            total += sum(int(ticks) for ticks in fields[11:15])
        elif int(fields[1]) == main:
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def most_held(ledger: Ledger) -> float:
    """Return the most CPUs ever held, by the history."""
    held: dict[str, float] = {}
    most = now = 0.0
    for event in reversed(ledger.history(limit=10_000_000)):
        if event.kind == "grant.given":
            held[event.subject] = event.data["amounts"]["cpu"]
            now += held[event.subject]
            most = max(most, now)
        elif event.kind == "grant.released":
            now -= held.pop(event.subject)
    assert not held, f"{len(held)} grants were never released"
    return most


def measure(server: PostgresServer, in_flight: int, given: argparse.Namespace) -> dict[str, float]:
    """Run the clients once and return what they did, and what that took."""
    url = server.url(server.create())
    ledger = connect(url)
    ledger.upgrade()
    ledger.register_node(node(cpu=CAPACITY))
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        books = Path(folder) / "books"
        begin, arguments = context.Barrier(given.clients + 1), (url, books, in_flight)
        shared = [(index, begin, said, given.seconds, arguments) for index in range(given.clients)]
        clients = [context.Process(target=run_client, args=each, kwargs={"toy": given.toy}) for each in shared]
        for process in clients:
            process.start()
        begin.wait()
        before = server_cpu_s(server)
        reports = [said.get() for _ in clients]
        server_s = server_cpu_s(server) - before
        begin.wait()
        for process in clients:
            process.join()
        used, most = account(books, 0)
    total = {key: sum(report[key] for report in reports) for key in reports[0]}
    total |= {"wall_s": max(report["wall_s"] for report in reports), "median_ms": total["median_ms"] / len(reports)}
    total |= {"server_s": server_s, "books": most, "history": most_held(ledger)}
    assert used == 0
    assert max(total["books"], total["history"]) <= CAPACITY, f"over-allocated: {total}"
    assert not ledger.leases()
    ledger.close()
    return total


def report(in_flight: int, total: dict[str, float]) -> str:
    """Write what was measured for a person."""
    count, rounds = total["admitted"], max(total["rounds"], 1)
    each = {name: total[name] / count * 1e3 for name in ("cpu_s", "plan_s", "server_s")}
    busy = (total["cpu_s"] + total["server_s"]) / total["wall_s"]
    could = 2 * count / (total["cpu_s"] + total["server_s"])
    held, waiting = total["live"] / rounds, total["pending"] / rounds
    return (
        f"{in_flight:3} in flight: {count / total['wall_s']:7.0f} /s wall, median {total['median_ms']:.1f} ms; "
        f"CPU each: clients {each['cpu_s']:.3f} ms (plan() {each['plan_s']:.3f}), server {each['server_s']:.3f} ms; "
        f"{count / rounds:.1f} admitted a round over {held:.0f} held and {waiting:.0f} waiting; "
        f"{busy:.2f} cores busy, so at most {could:.0f} /s on two; "
        f"most held {total['history']:.0f} of {CAPACITY} by the history, {total['books']:.0f} by the clients' books"
    )


def main() -> None:
    """Measure each number of requests in flight."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("in_flight", nargs="*", type=int, default=[1, 50])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = binaries()
    if found is None:
        sys.exit("no PostgreSQL binaries; on Debian: apt-get install postgresql")
    server = PostgresServer(found)
    try:
        for in_flight in given.in_flight:
            total = measure(server, in_flight, given)
            sys.stdout.write((json.dumps({"in_flight": in_flight, **total}) if given.json else report(in_flight, total)) + "\n")
            sys.stdout.flush()
    finally:
        server.remove()


if __name__ == "__main__":
    main()
