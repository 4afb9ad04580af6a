"""What waits in the triggerer.

`JobTrigger` follows a job from its grant to its end; `GrantTrigger` waits for the grant of an
operator that is not ours, and `HoldingTrigger` keeps it while that operator is deferred.
"""

from airflow_dla.triggers.grant import GrantTrigger, HoldingTrigger
from airflow_dla.triggers.job import JobTrigger

__all__ = ["GrantTrigger", "HoldingTrigger", "JobTrigger"]
