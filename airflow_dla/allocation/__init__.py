"""Who gets what: pure decisions about CPUs, GPUs and memory.

`plan` takes a cluster, what is granted, what waits and a policy, and returns grants
and a reason for every wait. It knows no clock, no database and no randomness.

Allocation is a linear programme: give every demand what it wants at least cost, within
what nodes have. When not everything fits, a *strategy* says in which order demands are
admitted by their minima, one file each: `lp` by priority and age, `greedy` the smallest
first, `fair` the team with the smallest dominant share, `price` and `auction` by value for
money at the prices of a `market`. A *shedding* rule says who gets what lies between minima
and wants (`shedding`). Where they are exact, closed forms on arrays (`table`) are used; a
solver is asked only where CPUs or memory follow the number of GPUs (`bundles`, `solver`),
for a market's prices, and for a small packing.

What is already held changes in `rounds`: live grants shrink, stop or grow (`adjusting`) as
little as possible, so that what waits and matters more can start.

`teams` and `limits` say what teams are guaranteed, lend and borrow; `backfill` keeps what
the head of the queue waits for. `placement` finds the nodes, `devices` hands out ids,
`reasons` says why.

GPUs of several types are shared by time (`heterogeneous`) and taken by whole gangs
(`assignment`); `simulation` says what becomes of a trace of jobs.

Where GPUs are handed out, `placement` leaves the choice of node and device to `seating`,
which keeps what is left of the GPUs of use: `fragmentation` scores nodes, `residuals`
prices what is left of a shared GPU, `fleet` remembers scores until a node changes.
`one_pass` places a whole list that way, to compare policies.
"""

from airflow_dla.allocation.adjusting import Adjustment, Coming, adjust
from airflow_dla.allocation.auction import vcg
from airflow_dla.allocation.file import adjustment_mapping, answer_mapping, read_live, read_policy, read_problem, read_team_shares
from airflow_dla.allocation.plan import plan
from airflow_dla.allocation.problem import SHEDDINGS, STRATEGIES, Plan, Policy
from airflow_dla.allocation.reasons import never_grantable
from airflow_dla.allocation.rounds import Allocation, allocate
from airflow_dla.allocation.teams import TeamShare, check_teams, decayed, team_share

__all__ = [
    "SHEDDINGS",
    "STRATEGIES",
    "Adjustment",
    "Allocation",
    "Coming",
    "Plan",
    "Policy",
    "TeamShare",
    "adjust",
    "adjustment_mapping",
    "allocate",
    "answer_mapping",
    "check_teams",
    "decayed",
    "never_grantable",
    "plan",
    "read_live",
    "read_policy",
    "read_problem",
    "read_team_shares",
    "team_share",
    "vcg",
]
