"""Inside the job: what runs the user's program, and the job object that it sees.

``runner``
    calls a function ``module:function`` with one argument, the `Job`, or runs a
    command that knows nothing of us; it says metrics and errors as lines on stdout.
``keeper``
    one small process per attempt in a local place: limits, inputs, waiting, stopping,
    outputs, ``exit.json``.
``mate``
    the same duties beside a container: inputs, checkpoints, outputs.
``fetch``, ``stay``
    the mate in containers of a pod of its own, whose way to the store is its follower (``relay``), who enters by the ``door``.
    Of the job's container they see the processes (``neighbour``), where the pod's containers share them.
``inside``
    the runner as a container's first process; alone, as in a pod, it measures the work and keeps it to its grace.

This folder is also mounted into images that have nothing but a Python 3.8, so its core
imports the standard library only and nothing else of this package. It runs from
anywhere: ``python FOLDER/agents run JOBDIR``. Only ``staging`` knows the artifact store.

For the unit tests of a user's own functions there is `Job.fake`:

>>> from airflow_dla.agents import Job
>>> job = Job.fake(args={"epochs": 2}, seed=7)
>>> job.log(step=1, loss=0.5)
>>> job.args["epochs"], job.logged
(2, [{'step': 1, 'loss': 0.5}])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .job import Checkpoint, Input, Job, Output

__all__ = ["Checkpoint", "Input", "Job", "Output"]


def __getattr__(name: str) -> Any:
    # A keeper needs nothing of the job's side: what it does not import costs no memory for days.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import job  # noqa: PLC0415 - the reason is above

    return getattr(job, name)
