"""An Airflow whose jobs run in pods of a cluster, and such a job as a test sees it."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from clusters import Document, Refused, Site, running
from cut_wire import CutWire
from system.arena import Arena, opened
from system.jobs import JobRun

from airflow_dla.runtime.kubernetes import names
from airflow_dla.runtime.kubernetes.runtime import is_over, is_suspended

#: What is struck in pods' tests, as often as it stands here: whoever follows a job, and the way to what runs it.
STRUCK = ("task", "task", "task", "outage", "outage", "triggerer")
#: Seconds that an outage lasts.
_OUTAGE_S = 0.5, 8.0
#: Seconds between two looks at the pods, which stay for longer than this when they have ended.
_LOOK_S = 1.0
_BEGUN = re.compile(r"^attempt (\S+) begins at epoch (\d+)$", re.MULTILINE)


class Witness(threading.Thread):
    """Sees the pods of a workspace as long as they are there: what succeeded goes as soon as its result was delivered.

    Parameters
    ----------
    site : `Site`
        Which is always in reach.
    labels : str
        Of the workspace's pods.
    """

    def __init__(self, site: Site, labels: str) -> None:
        super().__init__(daemon=True, name="witness")
        self._site, self._labels = site, labels
        self._seen: dict[str, Document] = {}
        self._said: dict[str, str] = {}
        self._enough = threading.Event()

    def run(self) -> None:
        """Look until it is enough."""
        while not self._enough.wait(_LOOK_S):
            self.look()

    def look(self) -> list[Document]:
        """Look now; return the pods that are there."""
        pods = self._site.pods(self._labels)
        for pod in pods:
            uid = pod["metadata"]["uid"]
            self._seen[uid] = pod
            if _BEGUN.search(self._said.get(uid, "")) is None:
                with suppress(Refused):  # it goes just now
                    self._said[uid] = self._site.log(pod, "main")
        return pods

    def pods(self, job: str = "") -> list[Document]:
        """Return all pods that were seen, or those of one job, the first that began first."""
        found = [pod for pod in list(self._seen.values()) if names.attempt_of(pod).startswith(f"{job}." if job else "")]
        return sorted(found, key=_began)

    def said(self, pod: Mapping[str, Any]) -> str:
        """Return what the program of a pod had written when it was seen to have begun."""
        return self._said.get(pod["metadata"]["uid"], "")

    def close(self) -> None:
        """Look no more."""
        self._enough.set()
        self.join()


class PodAirflow(Arena):
    """An Airflow of its own with a workspace on a cluster, ``dla_cluster``, whose API server it reaches past a wire.

    Parameters
    ----------
    site : `Site`
        As a test sees it, whatever becomes of the wire.
    wired : `Site`
        As Airflow does.
    wire : `CutWire`
    folder : Path
        Of this Airflow alone.
    """

    def __init__(self, site: Site, wired: Site, wire: CutWire, *, folder: Path) -> None:
        self.site, self._wire = site, wire
        self._outage = threading.Thread()
        ledger = f"sqlite:///{folder}/ledger.db"
        place = {"kind": "kubernetes", "connection": "cluster", "namespace": site.namespace}
        extra = {"ledger": ledger, "store": str(folder / "store"), "places": {"cluster": place}}
        env = {
            "DLA_TEST_IMAGE": site.image,
            "AIRFLOW_CONN_CLUSTER": json.dumps({"conn_type": "kubernetes", "extra": {"kube_config": wired.config}}),
            "AIRFLOW_CONN_DLA_CLUSTER": json.dumps({"conn_type": "dla", "extra": extra}),
        }
        super().__init__(folder, "pod_dags", {"dla_cluster": ledger}, env)
        self.witness = Witness(site, names.selector(self.identities["dla_cluster"]))
        self.witness.start()

    @property
    def strikes(self) -> Mapping[str, Callable[[random.Random], bool]]:
        """The API server may be out of reach."""
        return {"outage": self._cut}

    def begin(self, name: str, *, deferred: bool, epochs: int) -> JobRun:
        """Begin a run of a job that counts."""
        return PodRun(self, "pod_deferred" if deferred else "pod_sync", name, epochs=epochs)

    def made(self) -> Counter[str]:
        """Return how many pods each attempt was given."""
        return Counter(names.attempt_of(pod) for pod in self.witness.pods())

    def running(self) -> list[str]:
        """Return the names of the pods that run, and of the Jobs that may make one yet."""
        jobs = self.site.jobs(names.selector(self.identities["dla_cluster"]))
        return [*running(self.witness.look()), *(job["metadata"]["name"] for job in jobs if not (is_over(job) or is_suspended(job)))]

    def clean(self) -> None:
        """Remove what the jobs left in the namespace."""
        if self._outage.is_alive():
            self._outage.join()
        self.witness.close()
        self.site.clear(self.identities["dla_cluster"])

    def _cut(self, chance: random.Random) -> bool:
        """Begin an outage unless there is one: connections are refused, or nothing is answered; other strikes fall into it."""
        if self._outage.is_alive():
            return False
        outage, seconds = chance.choice((self._wire.cut, self._wire.silent)), chance.uniform(*_OUTAGE_S)

        def last() -> None:
            with outage():
                time.sleep(seconds)

        self._outage = threading.Thread(target=last)
        self._outage.start()
        return True


@contextmanager
def pod_airflow(site: Site) -> Iterator[PodAirflow]:
    """Start a `PodAirflow` in a folder of its own; nothing is left of it."""
    with site.past() as (wired, wire), opened(PodAirflow, site, wired, wire) as airflow:
        yield airflow


class PodRun(JobRun):
    """One run of a DAG whose job runs in pods; what they did is read in their own logs, since no node need be this host.

    Parameters
    ----------
    airflow : `PodAirflow`
    dag : str
    name : str
        Of the run's folder.
    epochs : int
    """

    def __init__(self, airflow: PodAirflow, dag: str, name: str, *, epochs: int) -> None:
        self.airflow = airflow
        super().__init__(airflow.server, dag, airflow.folder / name, ledger_url=airflow.ledgers["dla_cluster"], epochs=epochs, hold=False)

    @property
    def starts(self) -> list[dict[str, Any]]:
        """Every time that the work began: attempt, pod, first epoch, whether no pod of the job began earlier and ran still."""
        pods = self.airflow.witness.pods(self.job)
        told = [(number, pod, match) for number, pod in enumerate(pods) for match in _BEGUN.finditer(self.airflow.witness.said(pod))]
        return [
            {
                "attempt": match[1],
                "pod": pod["metadata"]["name"],
                "first": int(match[2]),
                "alone": all(_ended(other) <= _began(pod) for other in pods[:number]),
            }
            for number, pod, match in told
        ]


def _began(pod: Mapping[str, Any]) -> str:
    return _time(pod, "startedAt") or "never"


def _ended(pod: Mapping[str, Any]) -> str:
    return _time(pod, "finishedAt") or "never"


def _time(pod: Mapping[str, Any], name: str) -> str:
    """Return when the program began or ended, in UTC and of one length, so that words sort as times do."""
    main = next((one for one in pod["status"].get("containerStatuses") or () if one["name"] == "main"), {"state": {}})
    return str(next(iter(main["state"].values()), {}).get(name) or "")
