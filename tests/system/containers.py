"""An Airflow whose jobs run in containers of an engine, and such a job as a test sees it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from docker_daemon import Engine
from system.airflow_server import AirflowServer
from system.jobs import JobRun

from airflow_dla.ledger import connect

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: More than any machine of a test has: what is asked here is who follows jobs, not how fast they are.
AMPLE = {"cpu": 256, "memory": "256GiB"}


class ContainerAirflow:
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
        self.engine, self.folder, self.side = engine, folder, folder / "side"
        self.ledgers = {
            "dla_engine": ledger_url or f"sqlite:///{folder}/engine.db",
            "dla_scarce": f"sqlite:///{folder}/scarce.db",
        }
        self.side.mkdir(mode=0o777)
        self.side.chmod(0o777)
        self.dags = folder / "dags"
        shutil.copytree(HERE / "container_dags", self.dags, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HERE / "dags" / "counter.py", self.dags)
        self._identities = {name: _identity(url) for name, url in self.ledgers.items()}
        given = {
            "PYTHONPATH": str(ROOT),
            "DLA_TEST_IMAGE": image,
            "DLA_TEST_SIDE": str(self.side),
            "AIRFLOW_CONN_DLA_ENGINE": self._connection("dla_engine", AMPLE, timing),
            "AIRFLOW_CONN_DLA_SCARCE": self._connection("dla_scarce", {"cpu": 1, "memory": "1GiB"}, None, min_run_s=0, patience_s=0),
            **(env or {}),
        }
        self.server = AirflowServer(folder / "airflow", self.dags, env=given)

    def _connection(self, name: str, capacity: Mapping[str, Any], timing: Mapping[str, Any] | None, **allocation: Any) -> str:
        place = {
            "kind": "docker",
            "url": self.engine.host,
            "folder": str(self.folder / "jobs"),
            "capacity": capacity,
            "policy": {"mounts": [f"{self.side}:rw"]},
        }
        extra = {"ledger": self.ledgers[name], "store": str(self.folder / "store"), "places": {"engine": place}, "allocation": allocation}
        extra["timing"] = dict(timing or {})
        return json.dumps({"conn_type": "dla", "extra": extra})

    def containers(self, workspace: str = "dla_engine", *, running: bool = False, **labels: str) -> list[dict[str, Any]]:
        """Return the workspace's containers, as the engine lists them, with some labels more."""
        wanted = {"workspace": self._identities[workspace], **labels}
        with self.engine.client() as client:
            found = client.containers(all=not running, filters={"label": [f"dla.{name}={value}" for name, value in wanted.items()]})
        return list(found)

    def clean(self) -> None:
        """Remove every container of both workspaces."""
        with self.engine.client() as client:
            for workspace in self._identities:
                for found in self.containers(workspace):
                    client.remove_container(found["Id"], force=True, v=True)


def _identity(url: str) -> str:
    ledger = connect(url)
    try:
        ledger.upgrade()
        return ledger.identity()
    finally:
        ledger.close()


@contextmanager
def container_airflow(engine: Engine, image: str, **options: Any) -> Iterator[ContainerAirflow]:
    """Start a `ContainerAirflow` in a folder of its own; nothing is left of it."""
    with tempfile.TemporaryDirectory(prefix="dla-system-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        made = ContainerAirflow(engine, image, folder, **options)
        try:
            with made.server:
                yield made
        finally:
            made.clean()


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
