"""Airflow's REST API, as far as commands read it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import httpx

from airflow_dla.control import ComingRun
from airflow_dla.errors import InvalidSpec, NotFound

#: Where secrets are looked for: never on a command line, which everybody on the host can read.
TOKEN: Final = "DLA_AIRFLOW_TOKEN"  # noqa: S105 - a variable's name
PASSWORD: Final = "DLA_AIRFLOW_PASSWORD"  # noqa: S105 - a variable's name
_PAGE: Final = 100
_TIMEOUT_S: Final = 30.0


class AirflowRest:
    """Reads from an Airflow's REST API.

    Parameters
    ----------
    url : str
        Of the API server, without ``/api/v2``.
    user : str, optional
        Whose password stands in ``DLA_AIRFLOW_PASSWORD``; without it, a token in ``DLA_AIRFLOW_TOKEN``.

    Raises
    ------
    InvalidSpec
        If the secret is missing, or the server refuses it.
    """

    def __init__(self, url: str, *, user: str | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.Client(base_url=self.url, timeout=_TIMEOUT_S)
        token = self._token(user, environ)
        self._client.headers["Authorization"] = f"Bearer {token}"

    def _token(self, user: str | None, environ: Mapping[str, str]) -> str:
        if user is None:
            if not environ.get(TOKEN):
                raise InvalidSpec(f"reading {self.url} needs a token in ${TOKEN}, or --user with its password in ${PASSWORD}")
            return environ[TOKEN]
        if not environ.get(PASSWORD):
            raise InvalidSpec(f"the password of Airflow user {user!r} must stand in ${PASSWORD}")
        answer = self._ask("POST", "/auth/token", json={"username": user, "password": environ[PASSWORD]})
        return str(answer["access_token"])

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise NotFound(
                f"Airflow's API server does not answer at {self.url}: {type(error).__name__}: {error}; name it with --url"
            ) from None
        if answer.status_code in {401, 403}:
            raise InvalidSpec(
                f"{self.url}{path} refuses this user or token ({answer.status_code}); it must be allowed to read DAGs and their runs"
            )
        if answer.is_error:
            raise NotFound(f"{self.url}{path} answered {answer.status_code}: {answer.text[:200]}")
        return answer.json()

    def pages(self, path: str, key: str, **params: Any) -> Iterator[Mapping[str, Any]]:
        """Yield all there is under a path, page after page."""
        offset = 0
        while True:
            found = self._ask("GET", f"/api/v2{path}", params={**params, "limit": _PAGE, "offset": offset})
            yield from found[key]
            offset += len(found[key])
            if not found[key] or offset >= found["total_entries"]:
                return

    def coming_runs(self, dags: Iterable[str]) -> Iterator[ComingRun]:
        """Return the next run of each of these DAGs, and those that have begun: the API tells no more of a timetable."""
        wanted = set(dags)
        for run in self.pages("/dags/~/dagRuns", "dag_runs", state=["queued", "running"]) if wanted else ():
            if run["dag_id"] in wanted:
                yield ComingRun(run["dag_id"], run["dag_run_id"], _seconds(run["run_after"]))
        for dag in self.pages("/dags", "dags", paused=False, exclude_stale=True) if wanted else ():
            if dag["dag_id"] in wanted and dag["next_dagrun_run_after"]:
                due = _seconds(dag["next_dagrun_run_after"])
                yield ComingRun(dag["dag_id"], f"next@{due:.0f}", due)


def _seconds(written: str) -> float:
    return datetime.fromisoformat(written).timestamp()
