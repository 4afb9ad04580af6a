"""The plugin: found by its entry point, loaded by every Airflow process, so it imports next to nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

from airflow_dla.plugins import foresight, listener
from airflow_dla.plugins.weights import JobPriorityWeight

Scope = MutableMapping[str, Any]
Call = Callable[..., Awaitable[Any]]


class LazyApp:
    """Our routes as an ASGI application that is built at the first request, in the API server alone."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Scope, receive: Call, send: Call) -> None:
        """Hand a request to the routes."""
        if self._app is None:
            from airflow_dla.plugins.routes import make_app  # noqa: PLC0415 - FastAPI and Airflow's models are heavy

            self._app = make_app()
        await self._app(scope, receive, send)


class DlaPlugin(AirflowPlugin):
    """Deep-learning agents in the web UI."""

    name = "dla"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": "/dla", "name": "dla"}]  # noqa: RUF012 - as Airflow declares it
    listeners = [listener, foresight]  # noqa: RUF012 - as Airflow declares it
    priority_weight_strategies = [JobPriorityWeight]  # noqa: RUF012 - as Airflow declares it
