"""Links from a task instance in the web UI to its job's log and its first artifact.

The addresses are relative, so that they work where Airflow lives below a path. They are
made without asking anybody: Airflow makes them at every end of a hop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_dla.specs import JobKey

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol


class JobLogLink(BaseOperatorLink):
    """To everything the job wrote, also what the task log left out."""

    name = "Job log"

    def get_link(self, operator: Any, *, ti_key: RuntimeTaskInstanceProtocol | Any) -> str:
        """Return the address of the job's whole log."""
        return f"dla/jobs/{_job(ti_key)}/log?conn={operator.dla_conn_id}"


class ArtifactLink(BaseOperatorLink):
    """To what the job made."""

    name = "Artifacts"

    def get_link(self, operator: Any, *, ti_key: RuntimeTaskInstanceProtocol | Any) -> str:
        """Return the address of the job's outputs, empty for a job that has none."""
        return f"dla/jobs/{_job(ti_key)}/outputs?conn={operator.dla_conn_id}" if operator.outputs else ""


class ModelVersionLink(BaseOperatorLink):
    """To the model's versions and aliases."""

    name = "Model versions"

    def get_link(self, operator: Any, *, ti_key: RuntimeTaskInstanceProtocol | Any) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the address of the model."""
        return f"dla/models/{operator.model}?conn={operator.dla_conn_id}"


def _job(ti: Any) -> str:
    return JobKey(dag=ti.dag_id, run=ti.run_id, task=ti.task_id, index=ti.map_index if ti.map_index is not None else -1).id
