"""Waits until a model has a version: the one an alias names, or one newer than another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from airflow.sdk import BaseSensorOperator, Context, PokeReturnValue

from airflow_dla.hooks import DlaHook
from airflow_dla.specs import ModelRef


class ModelVersionSensor(BaseSensorOperator):
    """Succeeds when the version exists; its XCom is a reference to it, pinned by number.

    Parameters
    ----------
    model : str
        ``"digits@champion"`` or ``"digits@3"``.
    newer_than : int, optional
        Wait until the alias names a later version than this.
    dla_conn_id : str
    """

    template_fields: Sequence[str] = ("model", "newer_than", "dla_conn_id")

    def __init__(
        self,
        *,
        model: str,
        newer_than: int | str | None = None,
        dla_conn_id: str = DlaHook.default_conn_name,
        mode: str = "reschedule",
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, **kwargs)
        self.model = model
        self.newer_than = newer_than
        self.dla_conn_id = dla_conn_id

    @cached_property
    def hook(self) -> DlaHook:
        """The workspace's hook; connects when first used."""
        return DlaHook(self.dla_conn_id, kind="worker")

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Look the version up."""
        wanted = ModelRef(model=self.model, missing="skip")
        version = self.hook.workspace().registry.resolve(wanted)
        if version is None or (self.newer_than is not None and version.number <= int(self.newer_than)):
            self.log.info("%s: %s", self.model, "no such version yet" if version is None else f"still version {version.number}")
            return PokeReturnValue(is_done=False)
        found = ModelRef(model=f"{version.model}@{version.number}", digest=version.digest)
        return PokeReturnValue(is_done=True, xcom_value=found.to_mapping())
