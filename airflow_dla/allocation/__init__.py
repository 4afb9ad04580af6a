"""Who gets what: pure decisions about CPUs, GPUs and memory.

`plan` takes a cluster, what is granted, what waits and a policy, and returns grants
and a reason for every wait. It knows no clock, no database and no randomness.

Allocation is a linear programme: give every demand what it wants at least cost, within
what nodes have. When not everything fits, a *strategy* says in which order demands are
admitted by their minima (`lp`, `greedy`; one file each), and a *shedding* rule who gets
what lies between minima and wants (`shedding`). Both are exact closed forms on arrays
(`table`); only where CPUs or memory follow the number of GPUs a solver is asked
(`bundles`, `solver`). `placement` finds the nodes, `devices` hands out ids, `reasons`
says why.

GPUs of several types are shared by time (`heterogeneous`) and taken by whole gangs
(`assignment`); `simulation` says what becomes of a trace of jobs.

Where GPUs are handed out, `placement` leaves the choice of node and device to `seating`,
which keeps what is left of the GPUs of use: `fragmentation` scores nodes, `residuals`
prices what is left of a shared GPU, `fleet` remembers scores until a node changes.
`one_pass` places a whole list that way, to compare policies.
"""

from airflow_dla.allocation.file import answer_mapping, read_policy, read_problem
from airflow_dla.allocation.plan import plan
from airflow_dla.allocation.problem import SHEDDINGS, STRATEGIES, Plan, Policy
from airflow_dla.allocation.reasons import never_grantable

__all__ = ["SHEDDINGS", "STRATEGIES", "Plan", "Policy", "answer_mapping", "never_grantable", "plan", "read_policy", "read_problem"]
