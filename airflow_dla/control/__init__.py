"""The loops that join decisions to effects; nothing here knows Airflow.

A `Workspace` holds the objects that hooks built. `run_round` grants, `launch` starts
what was granted, a `Crew` follows many jobs from one thread (a `Follow` each; a gang's
members as one) and takes the reaper's turn, `refresh_nodes` looks at engines' machines,
`prepare` looks for what would fail before anything is launched, `refresh` writes down who
is expected and `foretold` what a job will need. `assigned` says which team pays, `usage`
who used how much.
"""

from airflow_dla.control.again import keeping_place
from airflow_dla.control.bare import ask, keep
from airflow_dla.control.belonging import Origin, assigned, owner
from airflow_dla.control.crew import Crew
from airflow_dla.control.follow import Follow, Listener
from airflow_dla.control.forecast import AUTO, ComingRun, Forecast, foretold, refresh
from airflow_dla.control.gang import following
from airflow_dla.control.launch import launch
from airflow_dla.control.membership import begun
from airflow_dla.control.nodes import refresh_nodes
from airflow_dla.control.prepare import check_entrypoint, resolve_inputs, ship_code
from airflow_dla.control.reaper import reap
from airflow_dla.control.rounds import decide, refuse_never_grantable, run_round
from airflow_dla.control.usage import Usage, usage
from airflow_dla.control.workspace import Timing, Workspace

__all__ = [
    "AUTO",
    "ComingRun",
    "Crew",
    "Follow",
    "Forecast",
    "Listener",
    "Origin",
    "Timing",
    "Usage",
    "Workspace",
    "ask",
    "assigned",
    "begun",
    "check_entrypoint",
    "decide",
    "following",
    "foretold",
    "keep",
    "keeping_place",
    "launch",
    "owner",
    "reap",
    "refresh",
    "refresh_nodes",
    "refuse_never_grantable",
    "resolve_inputs",
    "run_round",
    "ship_code",
    "usage",
]
