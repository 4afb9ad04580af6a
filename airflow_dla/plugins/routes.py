"""The read-only routes behind the operators' links; every one authenticated.

Airflow does not authenticate a plugin's application, so this one does: nobody gets in
without the right to see plugins, and a job's log and outputs need the right to read its DAG's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_view
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import StreamingResponse

from airflow_dla.control import Workspace
from airflow_dla.control.lines import read
from airflow_dla.errors import DlaError, NotFound
from airflow_dla.hooks.workspace import DlaHook
from airflow_dla.ledger import Attempt
from airflow_dla.runtime import Runtime
from airflow_dla.specs.references import digest as read_digest

Conn = Annotated[str, Query(pattern=r"^[A-Za-z0-9._-]{1,250}$")]


def make_app() -> FastAPI:
    """Return the application; its dependencies refuse whoever may not see plugins."""
    app = FastAPI(
        title="airflow-dla",
        dependencies=[Depends(requires_access_view(AccessView.PLUGINS))],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.get("/jobs/{job}/log")(job_log)
    app.get("/jobs/{job}/outputs")(job_outputs)
    app.get("/artifacts/{digest}")(artifact)
    app.get("/models/{model}")(model_versions)
    return app


def job_log(job: str, user: GetUserDep, conn: Conn = "dla_default") -> StreamingResponse:
    """Stream everything a job's last attempt wrote."""
    workspace, attempt = _job(job, user, conn, DagAccessEntity.TASK_LOGS)
    node = attempt.grant.node if attempt.grant else ""
    runtime = workspace.reached(node)
    if runtime is None:
        raise HTTPException(404, f"attempt {attempt.id} has no log here: it {'ran on ' + node if node else 'was never granted anything'}")
    headers = {"X-Content-Type-Options": "nosniff"}
    return StreamingResponse(_log(workspace, runtime, attempt), media_type="text/plain; charset=utf-8", headers=headers)


def job_outputs(job: str, user: GetUserDep, conn: Conn = "dla_default") -> dict[str, Any]:
    """Say how a job's last attempt ended and what it made."""
    _, attempt = _job(job, user, conn, DagAccessEntity.TASK_INSTANCE)
    return {
        "job": attempt.spec.key.to_mapping(),
        "attempt": attempt.id,
        "state": attempt.state.value,
        "granted": attempt.grant.to_mapping() if attempt.grant else None,
        "reason": attempt.reason.to_mapping() if attempt.reason else None,
        "exit": attempt.exit.to_mapping() if attempt.exit else None,
    }


def artifact(digest: str, conn: Conn = "dla_default") -> dict[str, Any]:
    """Return an artifact's manifest."""
    with _as_http():
        return _workspace(conn).store.manifest(read_digest(digest, "artifact")).to_mapping()


def model_versions(model: str, conn: Conn = "dla_default") -> dict[str, Any]:
    """Return a model's versions, newest first, and its aliases."""
    ledger = _workspace(conn).ledger
    versions = ledger.model_versions(model)
    if not versions:
        raise HTTPException(404, f"there is no model {model!r}")
    return {
        "model": model,
        "aliases": {alias.alias: alias.number for alias in ledger.aliases(model)},
        "versions": [
            {
                "version": version.number,
                "digest": version.digest,
                "signature": dict(version.signature),
                "metrics": dict(version.metrics),
                "lineage": dict(version.lineage),
                "created_at": version.created_at,
            }
            for version in versions
        ],
    }


class _as_http:  # noqa: N801 - used like a function
    """Turn our errors into answers a browser understands."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, DlaError):
            status = 404 if isinstance(error, NotFound) else 400 if isinstance(error, ValueError) else 503
            raise HTTPException(status, str(error)) from error


def _workspace(conn: str) -> Workspace:
    with _as_http():
        return DlaHook(conn).workspace()


def _job(job: str, user: Any, conn: str, entity: DagAccessEntity) -> tuple[Workspace, Attempt]:
    """Find a job its DAG's reader may see; whoever may not learns nothing of it."""
    workspace = _workspace(conn)
    with _as_http():
        attempt = workspace.ledger.last_attempt(job)
    if attempt is None:
        raise HTTPException(404, f"there is no job {job!r}")
    details = DagDetails(id=attempt.spec.key.dag)
    if not get_auth_manager().is_authorized_dag(method="GET", access_entity=entity, details=details, user=user):
        raise HTTPException(404, f"there is no job {job!r}")
    return workspace, attempt


def _log(workspace: Workspace, runtime: Runtime, attempt: Attempt) -> Iterator[str]:
    offset, nonce = 0, workspace.nonce(attempt.id)
    while data := runtime.logs(attempt.id, offset).data:
        said = read(data, nonce)
        said = said if said.consumed else read(data, nonce, last=True)
        offset += said.consumed
        yield "".join(f"{line}\n" for line in said.lines)
