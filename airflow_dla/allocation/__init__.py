"""Who gets what: pure decisions about CPUs, GPUs and memory.

`plan` takes a cluster, what is granted, what waits and a policy, and returns grants
and a reason for every wait. It knows no clock, no database and no randomness.
"""

from airflow_dla.allocation.problem import SHEDDINGS, STRATEGIES, Plan, Policy

__all__ = ["SHEDDINGS", "STRATEGIES", "Plan", "Policy"]
