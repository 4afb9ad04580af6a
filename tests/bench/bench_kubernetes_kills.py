"""Followers killed and API-server outages at random moments of jobs in pods: duplicates, orphans, leaked grants, wrong results.

Usage: ``python tests/bench/bench_kubernetes_kills.py [MOMENTS] [SEED]`` (30 by default; with the repository's root and
``tests`` on PYTHONPATH). ``DLA_TEST_KUBECONFIG``, ``DLA_TEST_IMAGE`` and ``DLA_TEST_NAMESPACE`` name a cluster. Each half of the jobs
is followed by a process of its own, as a triggerer or a worker's task follows: a crew over the workspace's ledger. At each
moment one of them is killed by SIGKILL and begun again, or the wire to the API server is cut for some seconds.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from cluster_runtime import runtime_at  # noqa: E402 - the path is set above
from clusters import Site, read_config  # noqa: E402
from contracts.runtime import wait_until  # noqa: E402
from fixtures_workspace import job_spec  # noqa: E402

from airflow_dla.artifacts import Store  # noqa: E402
from airflow_dla.control import Crew, Listener, Workspace, following  # noqa: E402
from airflow_dla.ledger import Attempt, Ledger, connect  # noqa: E402
from airflow_dla.registry import LedgerRegistry  # noqa: E402
from airflow_dla.runtime.kubernetes import names  # noqa: E402
from airflow_dla.specs import AttemptState, Node  # noqa: E402

_FOLLOWERS, _JOBS_EACH, _COUNT = 2, 2, 25
_PAUSE_S, _OUTAGE_S = 3.0, 4.0
_COUNTS = f"i=0; while [ $i -lt {_COUNT} ]; do i=$((i+1)); echo $i; sleep 0.2; done; echo $i > {{outputs.value}}/n"


def main(moments: int, seed: int) -> int:
    """Kill and cut so many times, check everything; return 0."""
    given = [os.environ.get(f"DLA_TEST_{name}", "") for name in ("KUBECONFIG", "NAMESPACE", "IMAGE")]
    if not all(given):
        sys.exit("name a cluster: DLA_TEST_KUBECONFIG, DLA_TEST_IMAGE, DLA_TEST_NAMESPACE")
    site = Site(read_config(Path(given[0])), given[1], given[2], given[2])
    chance, begun = random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as name, site.past() as (wired, wire):
        folder = Path(name)
        wired.written(folder / "kubeconfig")
        crowd = Crowd(folder, site, wired)
        wait_until(lambda: any(one.state is AttemptState.RUNNING for one in crowd.ledger.jobs(limit=10)), 120)
        while sum(crowd.done.values()) < moments:
            time.sleep(chance.uniform(0.0, _PAUSE_S))
            if chance.random() < 0.25:
                with wire.cut():
                    time.sleep(chance.uniform(0.5, _OUTAGE_S))
                crowd.done["outage"] += 1
            else:
                crowd.kill(chance.randrange(_FOLLOWERS))
        crowd.check()
        sys.stdout.write(f"seed {seed}: {dict(crowd.done)} in {time.monotonic() - begun:.0f} s, {crowd.summary}\n")
        site.clear(crowd.ledger.identity())
    return 0


@dataclass
class Crowd:
    """Jobs that count, followed by processes that may be killed; a job that has ended makes way for another."""

    folder: Path
    site: Site
    wired: Site
    done: Counter[str] = field(default_factory=Counter)
    summary: str = ""

    def __post_init__(self) -> None:
        self.ledger.upgrade()
        self.ledger.register_node(Node(name="cluster", capacity={"cpu": 100.0, "memory": 100.0}), host="here")
        self.followers = [self._begun(number) for number in range(_FOLLOWERS)]

    @property
    def ledger(self) -> Ledger:
        """The workspace's ledger."""
        return connect(f"sqlite:///{self.folder}/ledger.db")

    def kill(self, number: int) -> None:
        """Kill a follower and begin it again."""
        self.followers[number].kill()
        self.followers[number].wait()
        self.done[f"follower {number}"] += 1
        self.followers[number] = self._begun(number)

    def check(self) -> None:
        """Let all end; check that each attempt had one pod, each result is right, and nothing is left."""
        (self.folder / "enough").touch()
        for follower in self.followers:
            assert follower.wait(600) == 0, follower.args
        attempts = self.ledger.jobs(limit=10_000)
        wrong = [one for one in attempts if one.exit is None or not one.exit.succeeded or one.number != 1]
        assert not wrong, wrong
        store = Store(str(self.folder / "store"))
        for one in attempts:
            assert self._value(store, one) == _COUNT, one
        pods = Counter(names.attempt_of(pod) for pod in self.site.pods(names.selector(self.ledger.identity())))
        assert max(pods.values()) == 1, pods
        assert set(pods) <= {one.id for one in attempts}, pods
        assert self.ledger.leases() == ()
        jobs = runtime_at(self.site, self.ledger.identity(), store).jobs()
        assert not any(jobs.values()), jobs
        self.summary = f"{len(attempts)} jobs: 0 duplicates, 0 orphans, 0 leaked grants, every result right"

    def _value(self, store: Store, one: Attempt) -> int:
        assert one.exit is not None
        target = self.folder / "read" / one.id
        store.fetch(one.exit.outputs["value"].digest, target)
        return int((target / "n").read_text(encoding="utf-8"))

    def _begun(self, number: int) -> subprocess.Popen[bytes]:
        words = [sys.executable, __file__, "follow", str(self.folder), self.wired.namespace, self.wired.image, str(number)]
        return subprocess.Popen(words)


def follow(folder: Path, namespace: str, image: str, number: int) -> None:
    """Follow jobs, a few at a time, until it is enough and all have ended."""
    ledger, store = connect(f"sqlite:///{folder}/ledger.db"), Store(str(folder / "store"))
    site = Site(read_config(folder / "kubeconfig"), namespace, image, image)
    workspace = Workspace(
        name="kills",
        identity=ledger.identity(),
        ledger=ledger,
        store=store,
        registry=LedgerRegistry(ledger),
        runtimes={"cluster": runtime_at(site, ledger.identity(), store, logs=folder / "logs", silent_s=20.0)},
        follower=f"here:{os.getpid()}:{number}",
        host="here",
        kind="triggerer",
    )
    crew, mine, followed = Crew(workspace), f"t{number}-", set[str]()
    while True:
        live = [one for one in ledger.jobs(limit=10_000) if one.spec.key.task.startswith(mine) and not one.ended]
        for one in live:
            if one.id not in followed:
                followed.add(one.id)
                crew.join(following(workspace, one, Listener()))
        enough = (folder / "enough").exists()
        if enough and not live:
            return
        if not enough and len(live) < _JOBS_EACH:
            spec = job_spec(
                f"{mine}{time.time_ns()}", entrypoint=["sh", "-c", _COUNTS], outputs=["value"], request={"cpu": 0.1, "memory": "64MiB"}
            )
            ledger.open_attempt(spec)
            continue
        time.sleep(0.2)


if __name__ == "__main__":
    if sys.argv[1:2] == ["follow"]:
        follow(Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        sys.exit(main(int((sys.argv[1:2] or [30])[0]), int((sys.argv[2:3] or [1])[0])))
