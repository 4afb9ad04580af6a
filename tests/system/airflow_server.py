"""A whole Airflow on loopback for the system tests: its own home, free ports, and processes that can be killed one by one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from system.processes import alive, descendants, eventually, free_ports
from system.rest import Rest

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
"""The parts of Airflow, each a process group of its own."""

STANDALONE = ("standalone",)
"""``airflow standalone``: all parts as children of one process."""


class AirflowServer(Rest):
    """
    Airflow's components as child processes, driven through the REST API.

    Every component runs in a session of its own, so that a test can kill one without the others. What was started is ended by its
    process ids. `started_s` says how many seconds the start took.

    Parameters
    ----------
    home
        AIRFLOW_HOME of this Airflow; made if absent. A home that exists already is used as it is.
    dags
        The DAGs folder.
    env
        Environment variables added to the clean environment (``AIRFLOW__…``, ``AIRFLOW_CONN_…``, ``PYTHONPATH``); an empty value
        takes a default of this class away.
    components
        What to start: some of `COMPONENTS`, or `STANDALONE`.
    """

    def __init__(self, home: Path, dags: Path, *, env: Mapping[str, str] | None = None, components: Sequence[str] = COMPONENTS) -> None:
        port, *log_ports = free_ports(3)
        super().__init__(f"http://127.0.0.1:{port}", passwords=home / "simple_auth_manager_passwords.json.generated")
        self.home = home
        self.components = tuple(components)
        wanted = _clean(os.environ) | _settings(home, dags, port=port, log_ports=log_ports) | dict(env or {})
        self.env = {key: value for key, value in wanted.items() if value}
        self.started_s = 0.0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Make the database, start every component and wait until all are healthy."""
        self.home.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        try:
            if self.components != STANDALONE:
                self.airflow("db", "migrate")
            self._launch(self.components)
        except BaseException:
            self.stop()
            raise
        self.started_s = time.monotonic() - begun
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def airflow(self, *args: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the command ``airflow …`` in this Airflow's environment; a failure raises with its output, unless `check` is false."""
        command = [sys.executable, "-m", "airflow", *args]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise RuntimeError(f"airflow {' '.join(args)} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done

    def output(self, component: str) -> str:
        """Return what a component has printed since its first start."""
        path = self._output_path(component)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def pids(self, component: str) -> list[int]:
        """Return the ids of a component's living processes, its own first; tasks are below the scheduler."""
        process = self._processes[component]
        return [process.pid, *descendants(process.pid)] if alive(process.pid) else []

    def kill(self, component: str, sig: signal.Signals = signal.SIGKILL) -> None:
        """
        End a component and wait until it and all that was below it are gone.

        SIGKILL goes to every process below it too, as when its container dies; any other signal goes to its own process only.
        A triggerer with triggers takes 12 s to obey SIGTERM.
        """
        pids = self.pids(component)
        _send(pids if sig == signal.SIGKILL else pids[:1], sig)
        self._processes[component].wait(timeout=60)
        eventually(lambda: not any(map(alive, pids)), timeout=60, what=f"end of {component} {pids}")

    def restart(self, component: str) -> None:
        """Start a component again, ending it first if it lives, and wait until it is healthy."""
        if self.pids(component):
            self.kill(component, signal.SIGTERM)
        self._launch([component])

    def stop(self, grace_s: float = 5) -> None:
        """End everything: SIGTERM to every process group, after `grace_s` seconds SIGKILL to what is left."""
        self.close()
        pids = [pid for component in self._processes for pid in self.pids(component)]
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            eventually(lambda: not any(map(alive, pids)), timeout=grace_s, what="end of Airflow")
        _send(pids, signal.SIGKILL)
        for process in self._processes.values():
            process.wait(timeout=30)
        eventually(lambda: not any(map(alive, pids)), timeout=30, what=f"end of Airflow's processes {pids}")
        self._processes.clear()

    def _launch(self, components: Sequence[str]) -> None:
        begun = time.time()
        for component in components:
            with self._output_path(component).open("ab") as output:
                self._processes[component] = subprocess.Popen(
                    [sys.executable, "-m", "airflow", component],
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        eventually(lambda: self._healthy(components, since=begun), timeout=120, what=f"health of {components} at {self.url}")

    def _healthy(self, components: Sequence[str], *, since: float) -> bool:
        for component in components:
            if (status := self._processes[component].poll()) is not None:
                raise RuntimeError(f"{component} ended with {status}:\n{self.output(component)[-4000:]}")
        report = self.health()
        parts = COMPONENTS if tuple(components) == STANDALONE else components
        return bool(report) and all(_beats(report, part.replace("-", "_"), since) for part in parts if part != "api-server")

    def _output_path(self, component: str) -> Path:
        return self.home / f"{component}.out"


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without any Airflow of its own."""
    return {key: value for key, value in environ.items() if not key.startswith(("AIRFLOW", "_AIRFLOW"))}


def _settings(home: Path, dags: Path, *, port: int, log_ports: Sequence[int]) -> dict[str, str]:
    """Return the environment of a small, fast Airflow that notices deaths within seconds."""
    sections: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": dags,
            "load_examples": False,
            "executor": "LocalExecutor",
            "parallelism": 6,
            "dags_are_paused_at_creation": False,
            "execution_api_server_url": f"http://127.0.0.1:{port}/execution/",
        },
        "api": {"host": "127.0.0.1", "port": port, "base_url": f"http://127.0.0.1:{port}"},
        "logging": {"worker_log_server_port": log_ports[0], "trigger_log_server_port": log_ports[1]},
        "scheduler": {
            "scheduler_idle_sleep_time": 0.5,
            "task_instance_heartbeat_timeout": 15,
            "task_instance_heartbeat_timeout_detection_interval": 3,
            "trigger_timeout_check_interval": 3,
            "orphaned_tasks_check_interval": 15,
        },
        "triggerer": {"job_heartbeat_sec": 2, "triggerer_health_check_threshold": 8},
        "dag_processor": {"refresh_interval": 5, "min_file_process_interval": 5, "parsing_processes": 1},
        "usage_data_collection": {"enabled": False},
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    named = {f"AIRFLOW__{name.upper()}__{key.upper()}": str(value) for name, part in sections.items() for key, value in part.items()}
    return {"AIRFLOW_HOME": str(home), "PATH": path, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", **named}


def _beats(report: Mapping[str, Any], part: str, since: float) -> bool:
    """Tell whether a component's last heartbeat is younger than its start."""
    beat = report[part].get(f"latest_{part}_heartbeat")
    return report[part]["status"] == "healthy" and beat is not None and datetime.fromisoformat(beat).timestamp() >= since


def _send(pids: Sequence[int], sig: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, sig)
