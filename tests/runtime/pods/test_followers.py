"""Several processes that follow one job, and such that die at any moment: one pod, one end, the same for all."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import launching_in_pods
import pytest
from cluster_runtime import small
from clusters import Site
from contracts.runtime import ended, submitted, wait_until

from airflow_dla.artifacts import Store
from airflow_dla.runtime.kubernetes import names
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime, is_over
from airflow_dla.specs import Exit, ExitReason

pytestmark = pytest.mark.timeout(300)

Runtimes = Callable[..., KubernetesRuntime]
Begin = Callable[[str], subprocess.Popen[bytes]]

_ROOT = Path(__file__).parents[3]
_WRITES = ["sh", "-c", "echo ran; sleep 1; echo 7 > {outputs.model}/n"]


def together(*calls: Callable[[], object]) -> None:
    """Make some calls at once."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def pods_of(site: Site, workspace: str) -> list[str | None]:
    """Return the attempts that have a pod, as often as they have one."""
    return [names.attempt_of(pod) for pod in site.pods(names.selector(workspace))]


def test_two_followers(site: Site, runtimes: Runtimes, workspace_id: str):
    """Both launch, look, read and conclude the same; its outputs are published once."""
    both = runtimes(), runtimes()
    launch = small(_WRITES, outputs=("model",), secrets={"TOKEN": "hidden"})
    found: list[Exit] = []

    def follow(runtime: KubernetesRuntime) -> None:
        submitted(runtime, launch, 60)
        found.append(ended(runtime, "job.1", 60))

    together(*(lambda runtime=runtime: follow(runtime) for runtime in both))
    assert len(found) == 2
    assert found[0] == found[1]
    assert found[0].succeeded
    assert pods_of(site, workspace_id) == ["job.1"]
    assert {runtime.logs("job.1", 0).data for runtime in both} == {b"ran\n"}


def test_the_watch_of_pods_may_be_behind(runtimes: Runtimes):
    """Of a pod that it does not show yet when its Job is over, end and log are asked for."""
    one, other = runtimes(), runtimes(blind=True)
    submitted(one, small(["sh", "-c", "echo ran; exit 3"]), 60)
    wait_until(lambda: is_over(one._shelf.find("job.1") or {}), 60)
    found = ended(other, "job.1", 20)
    assert (found.reason, found.code) == (ExitReason.USER_ERROR, 3)
    assert other.logs("job.1", 0).data == b"ran\n"


def test_two_reasons(runtimes: Runtimes):
    """Of two stops at once one counts, for both who asked."""
    one, other = runtimes(), runtimes()
    submitted(one, small(["sh", "-c", "echo on; sleep 60"], grace_s=1.0), 60)
    together(lambda: one.cancel("job.1", ExitReason.PREEMPTED), lambda: other.cancel("job.1", ExitReason.STOPPED))
    found = ended(one, "job.1", 30)
    assert found.reason in {ExitReason.PREEMPTED, ExitReason.STOPPED}
    assert ended(other, "job.1", 30) == found


def test_stopped_while_it_is_launched(site: Site, runtimes: Runtimes, workspace_id: str):
    """Whichever comes first, a stopped attempt ends, and never has a second pod."""
    one, other = runtimes(), runtimes()
    for number in range(1, 6):
        attempt = f"job.{number}"
        launch = small(["sleep", "60"], attempt, grace_s=1.0)

        def stop(attempt: str = attempt, number: int = number) -> None:
            time.sleep(0.02 * number)
            other.cancel(attempt, ExitReason.STOPPED)

        together(lambda launch=launch: submitted(one, launch, 60), stop)
        assert ended(one, attempt, 60).reason is ExitReason.STOPPED
    assert not any(one.jobs().values())
    assert len(pods_of(site, workspace_id)) == len(set(pods_of(site, workspace_id)))


# --- processes of their own ----------------------------------------------------------


@pytest.fixture
def begin(site: Site, workspace_id: str, store: Store, tmp_path: Path) -> Iterator[Begin]:
    """Return a function that starts a process that launches an attempt."""
    begun: list[subprocess.Popen[bytes]] = []
    config = site.written(tmp_path / "kubeconfig")

    def begin_(attempt: str) -> subprocess.Popen[bytes]:
        arguments = [str(config), site.namespace, site.image, workspace_id, attempt, store.url]
        command = [sys.executable, launching_in_pods.__file__, *arguments]
        begun.append(subprocess.Popen(command, env=launching_in_pods.environment(), stderr=subprocess.PIPE))
        return begun[-1]

    yield begin_
    for one in begun:
        one.kill()
        one.communicate()


def test_submitter_killed_at_random_moments(pods: KubernetesRuntime, site: Site, begin: Begin, store: Store, workspace_id: str):
    """The next one finishes what the killed one began: one pod for each attempt, every result right, no secret missing."""
    chance = random.Random(7)
    for number in range(1, 7):
        attempt = f"job.{number}"
        killed = begin(attempt)
        wait_until(lambda attempt=attempt, killed=killed: attempt in pods.jobs() or killed.poll() is not None, 60)
        time.sleep(chance.uniform(0.0, 0.6))
        killed.kill()
        killed.wait()
        submitted(pods, launching_in_pods.launch(attempt, store.url), 60)
        found = ended(pods, attempt, 60)
        assert found.succeeded, found
        assert pods.logs(attempt, 0).data == b"ran\n7\n"
        assert list(found.outputs) == ["model"]
    attempts = pods_of(site, workspace_id)
    assert sorted(attempts) == sorted(set(attempts))


def test_four_submitters_at_once(pods: KubernetesRuntime, site: Site, begin: Begin, workspace_id: str):
    """Processes that launch the same attempt at once start one pod, and all of them think it theirs."""
    all_ = [begin("job.1") for _ in range(4)]
    assert [one.wait(120) for one in all_] == [0] * 4, [one.stderr.read() for one in all_ if one.stderr]
    assert ended(pods, "job.1", 60).succeeded
    assert pods_of(site, workspace_id) == ["job.1"]
