"""An auth manager under which viewers may see plugins but no DAG."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class ShyAuthManager(SimpleAuthManager):
    """Only administrators may read DAGs."""

    def is_authorized_dag(self, *, user: Any, **_: Any) -> bool:
        """Whether a user may read a DAG."""
        return bool(user.role == "ADMIN")
