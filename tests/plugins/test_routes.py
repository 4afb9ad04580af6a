"""Tests of the routes behind the operators' links: what they serve, and to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from fastapi.testclient import TestClient
from fixtures_airflow import MakeTask, context

from airflow_dla.hooks import DlaHook
from airflow_dla.operators import JobOperator
from airflow_dla.plugins.routes import make_app
from airflow_dla.specs import JobKey

pytestmark = [pytest.mark.usefixtures("embedded"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

Client = Callable[[str | None], TestClient]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Return a function that gives a client for a user of a role; None is nobody."""
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "fakes.auth_manager.ShyAuthManager")
    purge_cached_app()
    create_auth_manager()

    def make(role: str | None) -> TestClient:
        app = make_app()
        if role is not None:
            app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username=role, role=role)
        return TestClient(app)

    yield make
    purge_cached_app()


@pytest.fixture
def job(make_task: MakeTask) -> str:
    """Return the id of a job that has run."""
    make_task(JobOperator, entrypoint=["python", "script.py"], args={"value": "<b>"}).execute(context("t"))
    return JobKey(dag="d", run="r", task="t").id


PATHS = ("/jobs/{job}/log", "/jobs/{job}/outputs", "/models/digits", "/artifacts/sha256:" + "0" * 64)


@pytest.mark.parametrize("path", PATHS)
def test_nobody_gets_in(client: Client, job: str, path: str) -> None:
    """Airflow does not authenticate plugins; these routes do."""
    assert client(None).get(path.format(job=job)).status_code == 401


def test_a_job_s_log_is_plain_text(client: Client, job: str) -> None:
    """What a program printed is never read as HTML, and the runner's own lines are left out."""
    answer = client("ADMIN").get(f"/jobs/{job}/log")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "acc=0.5 ['--value', '<b>']" in answer.text
    assert "::dla:" not in answer.text


@pytest.mark.parametrize("what", ["log", "outputs"])
def test_who_may_not_read_the_dag_learns_nothing_of_its_jobs(client: Client, job: str, what: str) -> None:
    """A job one may not see looks like one that does not exist."""
    viewer = client("VIEWER")
    refused, unknown = viewer.get(f"/jobs/{job}/{what}"), viewer.get(f"/jobs/{'0' * 20}/{what}")
    assert refused.status_code == unknown.status_code == 404
    assert refused.json()["detail"].replace(job, "X") == unknown.json()["detail"].replace("0" * 20, "X")


def test_a_job_s_end_is_told(client: Client, job: str) -> None:
    """State, grant and exit as plain JSON."""
    answer = client("ADMIN").get(f"/jobs/{job}/outputs").json()
    assert answer["exit"]["reason"] == "succeeded"
    assert answer["granted"]["amounts"]["cpu"] == 1.0


def test_a_model_s_versions_are_told(client: Client) -> None:
    """Newest first, with the aliases."""
    registry = DlaHook().workspace().registry
    for number in (1, 2):
        registry.register(
            "digits", digest=f"sha256:{number:064}", signature={}, metrics={"acc": 1.0}, lineage={}, registered_by=f"j.{number}"
        )
    registry.promote("digits", 2, "champion", interval_end=None, by="t", why="t")
    answer = client("VIEWER").get("/models/digits").json()
    assert [version["version"] for version in answer["versions"]] == [2, 1]
    assert answer["aliases"] == {"champion": 2}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/models/none", 404),
        ("/artifacts/sha256:" + "0" * 64, 404),
        ("/artifacts/x", 400),
        ("/models/x?conn=../etc", 422),
        ("/models/x?conn=no", 404),
    ],
)
def test_what_does_not_exist_is_said_so(client: Client, path: str, status: int) -> None:
    """No internal error for a wrong address."""
    assert client("ADMIN").get(path).status_code == status
