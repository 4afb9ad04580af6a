"""The words of airflow-dla: frozen, validated dataclasses that travel as plain JSON.

An *agent* has *entrypoints*; a *job* runs one for one Airflow task, in numbered
*attempts*; it *requests* resources and gets a *grant*, or a *reason* to wait; what it
reads and writes are *references*. Each word is checked when it is made and reads and
writes itself as a plain mapping (``from_mapping``, ``to_mapping``).
"""

from airflow_dla.specs.agents import NO_AGENT, VERBS, AgentSpec, Entrypoint
from airflow_dla.specs.distributed import Distributed, Part, parts
from airflow_dla.specs.forecast import Expected
from airflow_dla.specs.grants import Demand, Grant, Held, Node, Reason, Step, Unblock, describe_amounts
from airflow_dla.specs.jobs import PROTOCOL, JobKey, JobPolicy, JobSpec
from airflow_dla.specs.places import PlaceSpec
from airflow_dla.specs.policies import PlacePolicy
from airflow_dla.specs.protocol import LINE_KINDS, MAX_LINE, JobFile, KeeperFile
from airflow_dla.specs.references import ArtifactRef, ModelRef, Reference, UriRef, public_url, reference
from airflow_dla.specs.resources import RESOURCES, Range, Request, mig_profile, unit_of
from airflow_dla.specs.spec import Spec
from airflow_dla.specs.states import AttemptState, Exit, ExitReason
from airflow_dla.specs.teams import Account, TeamSpec

__all__ = [
    "LINE_KINDS",
    "MAX_LINE",
    "NO_AGENT",
    "PROTOCOL",
    "RESOURCES",
    "VERBS",
    "Account",
    "AgentSpec",
    "ArtifactRef",
    "AttemptState",
    "Demand",
    "Distributed",
    "Entrypoint",
    "Exit",
    "ExitReason",
    "Expected",
    "Grant",
    "Held",
    "JobFile",
    "JobKey",
    "JobPolicy",
    "JobSpec",
    "KeeperFile",
    "ModelRef",
    "Node",
    "Part",
    "PlacePolicy",
    "PlaceSpec",
    "Range",
    "Reason",
    "Reference",
    "Request",
    "Spec",
    "Step",
    "TeamSpec",
    "Unblock",
    "UriRef",
    "describe_amounts",
    "mig_profile",
    "parts",
    "public_url",
    "reference",
    "unit_of",
]
