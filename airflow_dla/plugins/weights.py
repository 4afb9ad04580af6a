"""Which task gets a free slot of Airflow's first: a priority weight that follows the job's own priority."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from airflow.task.priority_strategy import PriorityWeightStrategy

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

#: What one step of a job's priority is worth beside a task on the longest chain below.
_STEP: Final = 1_000
#: Airflow keeps weights in 32 bits.
_MOST: Final = 2**31 - 1


class JobPriorityWeight(PriorityWeightStrategy):
    """Orders tasks by the priority of their jobs, then by how long the chain of tasks below them is.

    A job competes for GPUs only once its task has got a slot of Airflow's; with this rule the
    two queues have the same order, and of equal jobs the one on the critical path goes first.
    Set it with ``weight_rule="airflow_dla.plugins.weights.JobPriorityWeight"``.
    """

    def get_weight(self, ti: TaskInstance) -> int:
        """Return the task's own weight, plus 1,000 for each step of its job's priority, plus the chain below it."""
        task: Any = ti.task
        weight = int(task.priority_weight) + _STEP * job_priority(getattr(task, "policy", None)) + chain_below(task)
        return max(-_MOST, min(_MOST, weight))


def job_priority(policy: object) -> int:
    """Return the priority in a policy as its author wrote it; 0 where a template has yet to say.

    Examples
    --------
    >>> job_priority({"priority": "5"}), job_priority({"priority": "{{ params.p }}"}), job_priority(None)
    (5, 0, 0)
    """
    try:
        return int(policy["priority"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return 0


def chain_below(task: Any) -> int:
    """Return how many tasks the longest chain below a task has."""
    dag = task.get_dag()
    if dag is None:
        return 0
    tasks = dag.task_dict

    @cache
    def length(task_id: str) -> int:
        return max((1 + length(below) for below in tasks[task_id].downstream_task_ids), default=0)

    return length(task.task_id)
