"""Waits until a request would be granted at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from airflow_dla.allocation import plan
from airflow_dla.control import refuse_never_grantable
from airflow_dla.errors import NeverGrantable
from airflow_dla.hooks import DlaHook
from airflow_dla.specs import Demand, JobPolicy, Request


class CapacitySensor(BaseSensorOperator):
    """Succeeds when a request would be granted at once, behind everything that already waits.

    It takes nothing: a job's own wait is better where one follows at once.

    Parameters
    ----------
    request : dict
        ``{"cpu": 4, "gpu": 1}``
    policy : dict, optional
        ``{place, team, priority}``
    dla_conn_id : str
    """

    template_fields: Sequence[str] = ("request", "policy", "dla_conn_id")

    def __init__(
        self,
        *,
        request: Mapping[str, Any],
        policy: Mapping[str, Any] | None = None,
        dla_conn_id: str = DlaHook.default_conn_name,
        mode: str = "reschedule",
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, **kwargs)
        self.request = request
        self.policy = policy
        self.dla_conn_id = dla_conn_id

    @cached_property
    def hook(self) -> DlaHook:
        """The workspace's hook; connects when first used."""
        return DlaHook(self.dla_conn_id, kind="worker")

    def poke(self, context: Context) -> bool:  # noqa: ARG002 - Airflow's signature
        """Ask the allocation what it would do, granting nothing."""
        workspace = self.hook.workspace()
        policy = JobPolicy.from_mapping(self.policy or {})
        seen = workspace.ledger.snapshot()
        demand = Demand(
            id="sensor",
            request=Request.from_mapping(self.request),
            place=policy.place,
            team=policy.team,
            priority=policy.priority,
            created_at=seen.now,
        )
        try:
            refuse_never_grantable(workspace, demand)
        except NeverGrantable as error:
            raise AirflowFailException(str(error)) from error
        answer = plan(seen.nodes, seen.live, (*seen.pending, demand), workspace.policy, seen.now)
        if demand.id in answer.waiting:
            self.log.info("Not yet: %s", answer.waiting[demand.id].text)
        return demand.id in answer.grants
