"""What following many jobs on a cluster costs one process: CPU, watches, and whether an end is missed.

Usage: ``python tests/bench/bench_kubernetes_many.py [JOBS] [SECONDS] [PACE]`` (500 jobs for 120 s by default, each with a line in its
log every 10 s; with the repository's root and ``tests`` on PYTHONPATH). The cluster is a fake whose API server and nodes are
another process, so that what is measured is the follower alone. Then the jobs end, five in a second.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

from cluster_runtime import closed, runtime_at
from clusters import Site, config_of
from fakes.kubernetes_api import FakeCluster, Play, ScriptedKubelet
from fixtures_workspace import job_spec

from airflow_dla.artifacts import Store
from airflow_dla.control import Crew, Listener, Workspace, following
from airflow_dla.ledger import Attempt, connect
from airflow_dla.registry import LedgerRegistry
from airflow_dla.specs import AttemptState, Node

#: Part of a core that the follower may take, watches that it may keep open, and ends in a second.
MOST_CPU, MOST_WATCHES, PER_S = 0.20, 2, 5.0


def main(jobs: int, seconds: float, pace: float) -> int:
    """Follow so many jobs for so long; return 0 when the goals are met."""
    with tempfile.TemporaryDirectory() as name, Fake(jobs, pace) as fake:
        workspace = made(Path(name), fake.url)
        ends: dict[str, Attempt] = {}
        lines: Counter[str] = Counter()
        crew = Crew(workspace)
        begun = time.monotonic()
        for number in range(jobs):
            spec = job_spec(f"t{number}", entrypoint=["sh", "-c", "talk"], request={"cpu": 0.1, "memory": "64MiB"})
            listener = Listener(lambda line, task=spec.key.task: lines.update([task]), lambda end: ends.update({end.id: end}))
            crew.join(following(workspace, workspace.ledger.open_attempt(spec), listener))
        wait(lambda: running(workspace) == jobs, 60 + jobs, f"{jobs} jobs that run")
        say(f"{jobs} jobs run after {time.monotonic() - begun:.0f} s")
        time.sleep(2 * pace)
        before, asked, said = time.process_time(), fake.ask("count"), lines.total()
        time.sleep(seconds)
        cpu = (time.process_time() - before) / seconds
        now = fake.ask("count")
        requests, heard = (now["requests"] - asked["requests"]) / seconds, (lines.total() - said) / seconds
        say(f"over {seconds:.0f} s, a line of each every {pace:g} s: {cpu:.1%} of a core, {now['watches']} watches")
        say(f"{requests:.1f} requests and {heard:.1f} lines a second")
        fake.ask("end")
        wait(lambda: len(ends) == jobs, 60 + 2 * jobs / PER_S, f"{jobs} ends")
        good = sum(end.exit is not None and end.exit.succeeded for end in ends.values())
        ended = fake.ask("ended")
        late = sorted(end.ended_at - ended[end.id] for end in ends.values() if end.ended_at)
        say(f"{good} of {jobs} ended well; an end was known after {late[len(late) // 2]:.1f} s (median), {late[-1]:.1f} s (longest)")
        say(f"{lines.total()} lines; {len(workspace.ledger.leases())} grants are left")
        closed(next(iter(workspace.runtimes.values())))  # type: ignore[arg-type]
    return int(cpu > MOST_CPU or now["watches"] > MOST_WATCHES or good != jobs)


def made(folder: Path, url: str) -> Workspace:
    """Return a workspace whose one place is the fake."""
    ledger = connect(f"sqlite:///{folder}/ledger.db")
    ledger.upgrade()
    ledger.register_node(Node(name="cluster", capacity={"cpu": 1000.0, "memory": 1000.0}), host="here")
    store = Store(str(folder / "store"))
    site = Site(config_of({"server": url}, {}), "ml", "image", "image")
    runtime = runtime_at(site, ledger.identity(), store, logs=folder / "logs")
    return Workspace(
        name="many",
        identity=ledger.identity(),
        ledger=ledger,
        store=store,
        registry=LedgerRegistry(ledger),
        runtimes={"cluster": runtime},
        follower="here:1:many",
        host="here",
        kind="triggerer",
    )


def running(workspace: Workspace) -> int:
    """Return how many attempts run."""
    return sum(one.state is AttemptState.RUNNING for one in workspace.ledger.jobs(limit=10_000))


# --- the cluster, in another process -------------------------------------------------


class Fake:
    """A fake cluster in a process of its own; a context manager."""

    def __init__(self, jobs: int, pace: float) -> None:
        command = [sys.executable, __file__, "serve", str(jobs), str(pace)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = str(self._read())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, what: str) -> Any:
        """Ask for something; return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def serve(jobs: int, pace: float) -> None:
    """Be that process: containers say a line now and then until all are told to end."""
    kubelet = ScriptedKubelet(lambda pod, container: Play(code=None, log=b"on\n"))
    with FakeCluster(kubelet) as cluster:
        cluster.add_node("large", {"cpu": "1000", "memory": "1000Gi", "pods": "10000"})
        ended: dict[str, float] = {}
        stopped = threading.Event()
        threading.Thread(target=_talk, args=(cluster, kubelet, pace, ended, stopped), daemon=True).start()
        tell(cluster.url)
        for line in sys.stdin:
            match line.strip():
                case "count":
                    watches = sum(cluster.watches(kind) for kind in ("pods", "jobs", "events"))
                    tell({"watches": watches, "requests": cluster.requests.total()})
                case "end":
                    threading.Thread(target=_end, args=(cluster, kubelet, ended), daemon=True).start()
                    tell(None)
                case "ended":
                    tell(ended)


def _talk(cluster: FakeCluster, kubelet: ScriptedKubelet, pace: float, ended: dict[str, float], stopped: threading.Event) -> None:
    """Have every running pod say a line every `pace` seconds, evenly over them."""
    while not stopped.is_set():
        pods = [pod["metadata"] for pod in cluster.pods() if pod["status"].get("phase") == "Running"]
        until = time.monotonic() + pace
        for metadata in pods:
            if attempt(metadata) not in ended:
                kubelet.write(metadata["name"], b"a line of some fifty letters, as trainings write it\n")
            time.sleep(max(0.0, pace / len(pods) * 0.9))
        time.sleep(max(0.0, until - time.monotonic()))


def _end(cluster: FakeCluster, kubelet: ScriptedKubelet, ended: dict[str, float]) -> None:
    for pod in cluster.pods():
        ended[attempt(pod["metadata"])] = time.time()
        kubelet.finish(pod["metadata"]["name"])
        time.sleep(1 / PER_S)


def attempt(metadata: dict[str, Any]) -> str:
    """Return whose pod it is."""
    return str(metadata["annotations"]["airflow-dla/attempt"])


def tell(what: Any) -> None:
    """Answer the other process."""
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


def wait(condition: Any, timeout_s: float, what: str) -> None:
    """Wait until something is true."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            sys.exit(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(1.0)


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), float(sys.argv[3]))
        sys.exit(0)
    given = [float(word) for word in sys.argv[1:]]
    sys.exit(main(int((given[0:1] or [500])[0]), (given[1:2] or [120.0])[0], (given[2:3] or [10.0])[0]))
