"""How the steps of a run go: who runs, since when, and how each ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow.listeners import hookimpl

from airflow_dla.demo.steps import Step


@dataclass(slots=True, eq=False)
class Progress:
    """Listens to the tasks of this process, one after another.

    Parameters
    ----------
    dag : str
        Whose tasks count.
    began, ended : callable
        Called with each step when it begins, or goes on, and when it is over.
    """

    dag: str
    began: Callable[[Step], None] = lambda _step: None
    ended: Callable[[Step], None] = lambda _step: None
    run: str = ""
    current: Step | None = None
    steps: dict[str, Step] = field(default_factory=dict)

    @hookimpl
    def on_task_instance_running(self, previous_state: Any, task_instance: Any) -> None:  # noqa: ARG002 - Airflow's signature
        """Begin a step, or go on with it: a deferred task runs twice."""
        if task_instance.dag_id != self.dag:
            return
        self.run = task_instance.run_id
        step = self.current = self.steps.setdefault(task_instance.task_id, Step(task_instance.task_id))
        step.attempt = task_instance.try_number
        if not step.began:
            step.state, step.began = "running", time.monotonic()
        self.began(step)

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:  # noqa: ARG002 - Airflow's signature
        """End a step well."""
        self._end(task_instance, "success")

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:  # noqa: ARG002 - Airflow's signature
        """End a step with what went wrong."""
        self._end(task_instance, "failed", str(error or ""))

    def _end(self, ti: Any, state: str, error: str = "") -> None:
        step = self.steps.get(ti.task_id)
        if step is not None and ti.dag_id == self.dag:
            step.state, step.seconds, step.error = state, time.monotonic() - step.began, error
            self.ended(step)
