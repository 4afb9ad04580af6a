"""An Airflow whose jobs run in containers of an engine, and such a job as a test sees it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from functools import cached_property
from pathlib import Path
from typing import Any

from docker_daemon import Engine
from system.arena import Arena, opened
from system.jobs import JobRun

from airflow_dla.runtime.docker.engine import Engine as Client

#: More than any machine of a test has: what is asked here is who follows jobs, not how fast they are.
AMPLE = {"cpu": 256, "memory": "256GiB"}
SCARCE = {"cpu": 1, "memory": "1GiB"}
#: What is killed in containers' tests, as often as it stands here.
STRUCK = ("task", "task", "task", "container", "container", "triggerer", "scheduler")
HASTY = {"min_run_s": 0, "patience_s": 0}


class ContainerAirflow(Arena):
    """An Airflow of its own with two workspaces on one engine: ``dla_engine`` has plenty, ``dla_scarce`` one CPU.

    Parameters
    ----------
    engine : `Engine`
    image : str
        Of the jobs; has a Python.
    folder : Path
        Folder of this host that the engine can mount and containers' users can reach.
    ledger_url : str, optional
        Of ``dla_engine``; one of SQLite by default.
    timing : mapping, optional
        Of ``dla_engine``.
    env : mapping, optional
        More environment variables of Airflow.
    """

    def __init__(
        self,
        engine: Engine,
        image: str,
        folder: Path,
        *,
        ledger_url: str = "",
        timing: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.engine, self.side = engine, folder / "side"
        self.side.mkdir(mode=0o777)
        self.side.chmod(0o777)
        ledgers = {"dla_engine": ledger_url or f"sqlite:///{folder}/engine.db", "dla_scarce": f"sqlite:///{folder}/scarce.db"}
        given = {
            "DLA_TEST_IMAGE": image,
            "DLA_TEST_SIDE": str(self.side),
            "AIRFLOW_CONN_DLA_ENGINE": self._connection(folder, ledgers["dla_engine"], AMPLE, timing=dict(timing or {})),
            "AIRFLOW_CONN_DLA_SCARCE": self._connection(folder, ledgers["dla_scarce"], SCARCE, allocation=HASTY),
            **(env or {}),
        }
        super().__init__(folder, "container_dags", ledgers, given)

    def _connection(self, folder: Path, ledger: str, capacity: Mapping[str, Any], **extra: Any) -> str:
        place = {
            "kind": "docker",
            "url": self.engine.host,
            "folder": str(folder / "jobs"),
            "capacity": capacity,
            "policy": {"mounts": [f"{self.side}:rw"]},
        }
        given = {"ledger": ledger, "store": str(folder / "store"), "places": {"engine": place}, **extra}
        return json.dumps({"conn_type": "dla", "extra": given})

    @property
    def strikes(self) -> Mapping[str, Callable[[random.Random], bool]]:
        """Containers may be."""
        return {"container": self._kill}

    def begin(self, name: str, *, deferred: bool, epochs: int) -> JobRun:
        """Begin a run of a job that counts."""
        return ContainerRun(self, "docker_deferred" if deferred else "docker_sync", name, epochs=epochs, hold=False)

    def made(self) -> Counter[str]:
        """Return how many containers each attempt was given."""
        return Counter(one["Labels"]["dla.attempt"] for one in self.containers())

    def running(self) -> list[str]:
        """Return the ids of the containers that run."""
        return [one["Id"] for one in self.containers(running=True)]

    def _kill(self, chance: random.Random) -> bool:
        """Kill the work in some container that runs."""
        with closing(Client(self.engine.client, name="engine")) as client:
            return bool(running := self.running()) and client.kill(chance.choice(running), "SIGKILL")

    def containers(self, workspace: str = "dla_engine", *, running: bool = False, **labels: str) -> list[dict[str, Any]]:
        """Return the workspace's containers, as the engine lists them, with some labels more."""
        wanted = {"workspace": self.identities[workspace], **labels}
        with self.engine.client() as client:
            found = client.containers(all=not running, filters={"label": [f"dla.{name}={value}" for name, value in wanted.items()]})
        return list(found)

    def clean(self) -> None:
        """Remove every container of both workspaces."""
        with self.engine.client() as client:
            for workspace in self.identities:
                for found in self.containers(workspace):
                    client.remove_container(found["Id"], force=True, v=True)


def container_airflow(engine: Engine, image: str, **options: Any) -> AbstractContextManager[ContainerAirflow]:
    """Start a `ContainerAirflow` in a folder of its own; nothing is left of it."""
    return opened(ContainerAirflow, engine, image, **options)


class ContainerRun(JobRun):
    """One run of a DAG whose job runs in a container; its processes are the container and the mate beside it.

    Parameters
    ----------
    airflow : `ContainerAirflow`
    dag : str
    name : str
        Of its folder of traces.
    workspace : str
        Id of its connection.
    **options
        As of `JobRun`.
    """

    def __init__(self, airflow: ContainerAirflow, dag: str, name: str, *, workspace: str = "dla_engine", **options: Any) -> None:
        self.airflow, self.workspace = airflow, workspace
        super().__init__(airflow.server, dag, airflow.side / name, ledger_url=airflow.ledgers[workspace], **options)
        self.side.chmod(0o777)  # tasks take seconds to start; the container's user is nobody here

    @cached_property
    def folder(self) -> Path:
        """Where the attempts' folders lie."""
        return self.airflow.folder / "jobs" / self.ledger.identity()

    def containers(self, *, running: bool = False) -> list[dict[str, Any]]:
        """Return the job's containers."""
        return self.airflow.containers(self.workspace, running=running, job=self.job)

    def processes(self, number: int | None = None) -> list[int]:
        """Return the ids of living mates on this host, and of the first processes of running containers."""
        running = self.containers(running=True)
        wanted = [one for one in running if number is None or one["Labels"]["dla.attempt"] == f"{self.job}.{number}"]
        with self.airflow.engine.client() as client:
            inside = [client.inspect_container(one["Id"])["State"]["Pid"] for one in wanted]
        return [*super().processes(number), *inside]
