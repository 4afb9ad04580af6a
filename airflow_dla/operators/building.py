"""From an operator's rendered fields to a checked job specification."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow.sdk import Context

from airflow_dla.control import AUTO, Origin, Workspace, assigned, begun, check_entrypoint, resolve_inputs, ship_code
from airflow_dla.errors import InvalidSpec
from airflow_dla.hooks.settings import Settings
from airflow_dla.operators.placing import Placing, placed, refuse_shares
from airflow_dla.specs import NO_AGENT, AgentSpec, Entrypoint, JobKey, JobPolicy, JobSpec, Reference, Request, reference

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fields:
    """An operator's fields after rendering, as the author gave them.

    Parameters
    ----------
    agent, args, inputs, policy : mapping or None
    request : mapping, "auto" or None
        ``"auto"``: from what earlier runs used; the agent's when there are none, or when None.
    entrypoint : str, list or None
        The agent's entrypoint of the verb when None.
    verb : str
    outputs : sequence of str
    dag_folder : path
        Where the DAG file lies; code folders are relative to it.
    distributed : mapping or None
    """

    agent: Any
    entrypoint: Any
    args: Any
    inputs: Any
    outputs: Any
    request: Any
    policy: Any
    verb: str
    dag_folder: Path
    distributed: Any = None


def job_key(context: Context) -> JobKey:
    """Return the key of a task instance's job."""
    ti = context["ti"]
    return JobKey(dag=ti.dag_id, run=ti.run_id, task=ti.task_id, index=ti.map_index if ti.map_index is not None else -1)


def lineage(context: Context) -> dict[str, Any]:
    """Return what is worth remembering of the run: data interval, kind, try."""
    run = context["dag_run"]
    end = next((end for end in (run.data_interval_end, run.logical_date, run.run_after) if end is not None), None)
    return {
        "interval_end": end.timestamp() if end else None,
        "run_type": str(getattr(run.run_type, "value", run.run_type)),
        "try": context["ti"].try_number,
        "max_tries": context["ti"].max_tries,
        **origin(context),
    }


def origin(context: Context) -> dict[str, str]:
    """Return where a DAG comes from, as far as Airflow tells its tasks: its bundle and its Airflow team."""
    ti = context["ti"]
    bundle = getattr(getattr(ti, "bundle_instance", None), "name", None)
    team = getattr(ti, "stats_tags", {}).get("team_name")
    return {**({"bundle": bundle} if bundle else {}), **({"airflow_team": team} if team else {})}


def build(fields: Fields, key: JobKey, settings: Settings, more: Mapping[str, Any]) -> JobSpec:
    """Check an operator's fields and write the job they describe; launches and publishes nothing.

    Precedence: operator, then agent, then workspace; ``request`` replaces. What ``"auto"``
    comes to is chosen when the job is opened: here it is the request where nothing is known.

    Raises
    ------
    InvalidSpec
        Naming the value, the rule and the way out.
    """
    where = f"task {key.task!r}"
    agent = AgentSpec.from_mapping(dict(NO_AGENT) if fields.agent is None else fields.agent, f"{where}: agent")
    if fields.entrypoint is None and fields.agent is None:
        raise InvalidSpec(f"{where}: give entrypoint='module:function' or ['python', 'train.py'], or an agent that has {fields.verb!r}")
    entrypoint = agent.entrypoint(fields.verb) if fields.entrypoint is None else Entrypoint.parse(fields.entrypoint, f"{where}: entrypoint")
    asked = _request(fields.request, agent, f"{where}: request")
    policy = JobPolicy.from_mapping(fields.policy or {}, f"{where}: policy")
    placing = placed(settings, policy.place, agent.image, where)
    if placing.note:
        log.info(placing.note)
    refuse_shares(asked, placing, f"{where}: request")
    args = dict(fields.args or {})
    spec = JobSpec.from_mapping(
        {
            "key": key.to_mapping(),
            "agent": agent.to_mapping(),
            "entrypoint": entrypoint.to_mapping(),
            "verb": fields.verb,
            "args": args,
            "inputs": {name: read_input(name, raw).to_mapping() for name, raw in (fields.inputs or {}).items()},
            "outputs": list(fields.outputs or ()),
            "request": _labelled(dict(settings.request) if asked is None else asked.to_mapping(), placing),
            "policy": policy.to_mapping(),
            "seed": args.get("seed", 0),
            "distributed": fields.distributed,
            "lineage": {
                **more,
                **({"pinned": placing.node} if placing.node else {}),
                **({"in_image": True} if placing.in_image else {}),
                **({"request": AUTO} if fields.request == AUTO else {}),
            },
        },
        where,
    )
    return begun(spec, where)


def _labelled(request: dict[str, Any], placing: Placing) -> dict[str, Any]:
    """Ask for the labels of the nodes that will do."""
    labels = {**(request.get("labels") or {}), **placing.labels}
    return {**request, "labels": labels} if labels else request


def _request(raw: object, agent: AgentSpec, where: str) -> Request | None:
    """Return what the operator or the agent asks for, None when neither says."""
    if raw is None or raw == AUTO:
        return agent.request
    if isinstance(raw, str):
        raise InvalidSpec(
            f"{where} must be a mapping like {{'cpu': 2, 'memory': '1GiB'}}, or {AUTO!r} to learn it from earlier runs, got {raw!r:.80}"
        )
    return Request.from_mapping(raw, where)


def read_input(name: str, raw: object) -> Reference:
    """Read one input; a reference inside a list of one (a mapped task's) is not guessed at."""
    return reference(raw, f"input {name!r}")


def prepare(workspace: Workspace, spec: JobSpec, dag_folder: Path) -> JobSpec:
    """Find whose it is, resolve inputs and ship the code: what fails here fails before anything is launched.

    Raises
    ------
    InvalidSpec
        If the job names a team that its DAG does not belong to.
    NotFound
        If an input, a module, a function or a file does not exist.
    """
    come = Origin(dag=spec.key.dag, bundle=spec.lineage.get("bundle"), airflow_team=spec.lineage.get("airflow_team"))
    policy = assigned(spec.policy, workspace.ledger.teams(), come)
    inputs, versions = resolve_inputs(workspace, spec.inputs)
    folder = None if spec.agent.code is None else (dag_folder / spec.agent.code).resolve()
    check_entrypoint(spec.entrypoint, folder, in_image=bool(spec.lineage.get("in_image")))
    code = None if folder is None else ship_code(workspace, folder)
    left_out = sorted(set(spec.inputs) - set(inputs))
    more = {**spec.lineage, **({"models": versions} if versions else {}), **({"left_out": left_out} if left_out else {})}
    return replace(spec, policy=policy, inputs=inputs, code=code, lineage=more)
