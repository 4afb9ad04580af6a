"""Airflow's REST API, as far as the system tests use it: what a person does in the web UI."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from system.processes import eventually

FINAL = frozenset({"success", "failed"})
"""States that a run does not leave by itself."""


class Rest:
    """
    A client of one Airflow's REST API, logged in as its administrator.

    Parameters
    ----------
    url
        Where the API server listens (``http://127.0.0.1:PORT``).
    passwords
        The file in which the simple auth manager keeps the passwords that it made.
    """

    def __init__(self, url: str, *, passwords: Path) -> None:
        self.url = url
        self._passwords = passwords
        self._client: httpx.Client | None = None

    @property
    def token(self) -> str:
        """A new bearer token of the administrator."""
        password = json.loads(self._passwords.read_text(encoding="utf-8"))["admin"]
        answer = httpx.post(f"{self.url}/auth/token", json={"username": "admin", "password": password}, timeout=30)
        return str(answer.raise_for_status().json()["access_token"])

    def request(self, method: str, path: str, **options: Any) -> Any:
        """
        Call ``/api/v2/<path>`` and return its JSON; an error raises RuntimeError with the server's words.

        A call that failed by Airflow's database, which SQLite locks for too long on a machine under load, was undone and is repeated.
        """
        if self._client is None:
            self._client = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=30)
        for _ in range(5):
            answer = self._client.request(method, f"/api/v2/{path}", **options)
            if answer.status_code != 500 or "Database error" not in answer.text:
                break
            time.sleep(1)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:2000]}")
        return answer.json() if answer.content else None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def health(self) -> dict[str, Any]:
        """Return each component's status and last heartbeat, or nothing when the API server does not answer."""
        with suppress(httpx.HTTPError):
            return dict(httpx.get(f"{self.url}/api/v2/monitor/health", timeout=10).raise_for_status().json())
        return {}

    def wait_dag(self, dag_id: str, timeout: float = 60) -> None:
        """Wait until a DAG is known, and unpause it; a DAG file that does not import raises."""

        def unpaused() -> bool:
            if errors := self.request("GET", "importErrors")["import_errors"]:
                raise RuntimeError(f"DAGs do not import: {json.dumps(errors, indent=1)}")
            with suppress(RuntimeError):
                return not self.request("PATCH", f"dags/{dag_id}", json={"is_paused": False})["is_paused"]
            return False

        eventually(unpaused, timeout=timeout, what=f"DAG {dag_id}")

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, **body: Any) -> str:
        """Start a run of a DAG as soon as the DAG is known, and return the run's id."""
        self.wait_dag(dag_id)
        run = self.request("POST", f"dags/{dag_id}/dagRuns", json={"conf": dict(conf or {}), "logical_date": None, **body})
        return str(run["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run."""
        return dict(self.request("GET", f"dags/{dag_id}/dagRuns/{run_id}"))

    def set_run_state(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a run ``failed`` or ``success``; its unfinished tasks follow."""
        self.request("PATCH", f"dags/{dag_id}/dagRuns/{run_id}", json={"state": state})

    def wait(self, dag_id: str, run_id: str, timeout: float = 120) -> str:
        """Wait until a run has ended and return its state."""

        def ended() -> str | None:
            state = self.run(dag_id, run_id)["state"]
            return str(state) if state in FINAL else None

        return eventually(ended, timeout=timeout, what=f"end of run {dag_id} {run_id}")

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run, at most 1,000."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        pages = (self.request("GET", path, params={"limit": 100, "offset": start})["task_instances"] for start in range(0, 1000, 100))
        found: list[dict[str, Any]] = []
        for page in pages:
            found.extend(page)
            if len(page) < 100:
                break
        return found

    def task(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return a task instance (`state`, `pid`, `try_number`, …); `pid` is the task's process, the supervisor's child."""
        return dict(self.request("GET", _instance(dag_id, run_id, task_id, map_index)))

    def wait_task(self, dag_id: str, run_id: str, task_id: str, states: str | set[str], timeout: float = 60) -> dict[str, Any]:
        """Wait until a task instance is in one of `states`, and return it."""
        wanted = {states} if isinstance(states, str) else states

        def reached() -> dict[str, Any] | None:
            found = self.task(dag_id, run_id, task_id)
            return found if found["state"] in wanted else None

        return eventually(reached, timeout=timeout, what=f"{dag_id} {run_id} {task_id} in {sorted(wanted)}")

    def set_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark a task instance ``failed``, ``success`` or ``skipped``."""
        self.request("PATCH", _instance(dag_id, run_id, task_id, map_index), json={"new_state": state})

    def clear(self, dag_id: str, run_id: str, task_id: str, **options: Any) -> list[dict[str, Any]]:
        """Clear a task instance, whatever its state, reopen its run, and return what was cleared."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False, "reset_dag_runs": True}
        return list(self.request("POST", f"dags/{dag_id}/clearTaskInstances", json=body | options)["task_instances"])

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Return a try's log, one event per line, as the web UI shows it."""
        path = f"{_instance(dag_id, run_id, task_id)}/logs/{try_number}"
        options = {"map_index": map_index, "full_content": True}
        events = self.request("GET", path, params=options, headers={"Accept": "application/json"})["content"]
        return "\n".join(event["event"] if isinstance(event, dict) else str(event) for event in events)

    def xcoms(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, tuple[Any, int]]:
        """Return a task instance's XComs, links included: name → (value, bytes of its JSON)."""
        base = f"{_instance(dag_id, run_id, task_id)}/xcomEntries"
        names = [entry["key"] for entry in self.request("GET", base, params={"map_index": map_index})["xcom_entries"]]
        options = {"map_index": map_index, "deserialize": False, "stringify": False}
        values = {name: self.request("GET", f"{base}/{name}", params=options)["value"] for name in names}
        return {name: (value, len(json.dumps(value).encode())) for name, value in values.items()}

    def links(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, str | None]:
        """Return a task instance's extra links: name → URL."""
        path = f"{_instance(dag_id, run_id, task_id)}/links"
        return dict(self.request("GET", path, params={"map_index": map_index})["extra_links"])


def _instance(dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
    base = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
    return base if map_index < 0 else f"{base}/{map_index}"
