"""Saving a model: verified, registered as a version, and promoted when its gate held."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Asset, AssetAlias, BaseOperatorLink, Context

from airflow_dla.control import Workspace
from airflow_dla.errors import InvalidSpec
from airflow_dla.ledger import Attempt, ModelVersion
from airflow_dla.operators.building import Fields, read_input
from airflow_dla.operators.job import JobOperator
from airflow_dla.operators.links import JobLogLink, ModelVersionLink
from airflow_dla.registry.contract import OnBackfill
from airflow_dla.specs import ArtifactRef
from airflow_dla.specs.values import mapping


class SaveModelOperator(JobOperator):
    """Verifies a model's bytes and reads its signature in a job, then registers a version and moves an alias.

    Parameters
    ----------
    model : str
        The model's name.
    inputs : dict
        ``model``, and ``report`` of the evaluation: its metrics become the version's, and
        the alias moves only if its gate held.
    alias : str, optional
        ``"champion"``: who holds it before becomes ``previous``.
    on_backfill : {"register-only", "promote"}
        A run whose data interval is older than the alias holder's registers its version and leaves the alias.
    **kwargs
        As `JobOperator`.
    """

    verb: ClassVar[str] = "save"
    template_fields: Sequence[str] = (*JobOperator.template_fields, "model", "alias")
    operator_extra_links: Collection[BaseOperatorLink] = (JobLogLink(), ModelVersionLink())
    ui_color = "#e4f5f3"

    def __init__(self, *, model: str, alias: str | None = None, on_backfill: OnBackfill = "register-only", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.alias = alias
        self.on_backfill = on_backfill
        self.outlets = [*self.outlets, model_outlet(model)]

    def fields(self) -> Fields:
        """Return the job that reads the model: an entrypoint of ours, one CPU, half a GiB."""
        given = super().fields()
        inputs = dict(given.inputs or {})
        if "model" not in inputs:
            raise InvalidSpec(f"task {self.task_id!r}: SaveModelOperator needs inputs={{'model': …}}, got {', '.join(inputs) or 'none'}")
        return Fields(
            agent={"name": self.model, "code": None},
            entrypoint="airflow_dla.agents.save_model:save",
            args=given.args,
            inputs={"model": inputs["model"]},
            outputs=["signature"],
            request=given.request or {"cpu": 1, "memory": "512MiB"},
            policy=given.policy,
            verb=self.verb,
            dag_folder=given.dag_folder,
        )

    def deliver(self, context: Context, attempt: Attempt) -> dict[str, Any]:
        """Register the version, move the alias if the gate held, tell Airflow of the asset."""
        workspace = self.hook.get_conn()
        artifact = attempt.spec.inputs["model"]
        assert isinstance(artifact, ArtifactRef)
        assert attempt.exit is not None
        report = read_report(workspace, (self.inputs or {}).get("report"))
        version = workspace.registry.register(
            self.model,
            digest=artifact.digest,
            signature=signature_of(read_json(workspace, attempt.exit.outputs["signature"].digest, "signature.json")),
            metrics=report.get("metrics", {}),
            lineage=model_lineage(workspace, attempt, (self.inputs or {}).get("model")),
            registered_by=attempt.id,
        )
        self.log.info("Registered %s@%d (%s)", version.model, version.number, version.digest)
        promoted = self._promote(workspace, version, attempt, report.get("verdict", "none"))
        extra = {"model": self.model, "version": version.number, "digest": version.digest, "promoted": promoted}
        _tell(context, self.model, self.outlets, extra)
        reference = {"dla": "model", "model": f"{version.model}@{version.number}", "digest": version.digest}
        return {"model": reference, "version": version.number, "promoted": promoted}

    def _promote(self, workspace: Workspace, version: ModelVersion, attempt: Attempt, verdict: str) -> bool:
        if not self.alias:
            return False
        if verdict == "failed":
            self.log.warning("The report's gate did not hold: %s stays where it is", self.alias)
            return False
        promotion = workspace.registry.promote(
            self.model,
            version.number,
            self.alias,
            interval_end=attempt.spec.lineage.get("interval_end"),
            by=str(attempt.spec.key),
            why=f"saved by {attempt.id}",
            on_backfill=self.on_backfill,
        )
        self.log.info("Alias %s: %s", self.alias, promotion.reason)
        return promotion.moved


def model_outlet(model: str) -> Asset | AssetAlias:
    """Return what a task that saves a model updates; a templated name is only known when it runs."""
    if "{{" in model:
        return AssetAlias("dla-models")
    return model_asset(model)


def model_asset(model: str) -> Asset:
    """Return the asset of a model; a DAG may be scheduled on it."""
    return Asset(name=f"dla-model-{model}", uri=f"dla://models/{model}")


def _tell(context: Context, model: str, outlets: Sequence[Any], extra: Mapping[str, Any]) -> None:
    events = context["outlet_events"]
    for outlet in outlets:
        if isinstance(outlet, AssetAlias) and outlet.name == "dla-models":
            events[outlet].add(model_asset(model), extra=dict(extra))
        elif isinstance(outlet, Asset) and outlet.uri.startswith("dla://models/"):
            events[outlet].extra = dict(extra)


def read_report(workspace: Workspace, raw: Any) -> Mapping[str, Any]:
    """Return an evaluation's report; empty when none was given."""
    if raw is None:
        return {}
    reference = read_input("report", raw)
    if not isinstance(reference, ArtifactRef):
        raise InvalidSpec("input 'report' must be an evaluation's output: inputs={'report': gate.output['report']}")
    return read_json(workspace, reference.digest, "report.json")


def read_json(workspace: Workspace, digest: str, name: str) -> Mapping[str, Any]:
    """Return one JSON file of an artifact, verified."""
    with tempfile.TemporaryDirectory(prefix="dla-read-") as folder:
        workspace.store.fetch(digest, Path(folder, "artifact"))
        return mapping(json.loads(Path(folder, "artifact", name).read_bytes()), f"{name} of {digest}")


def signature_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a version is compared by: inputs and outputs; the list of weights stays in the artifact."""
    return {side: said[side] for side in ("inputs", "outputs") if side in said}


def model_lineage(workspace: Workspace, saved: Attempt, raw: Any) -> dict[str, Any]:
    """Return where a model comes from: the job that made it when that is known, else the one that saved it."""
    reference = read_input("model", raw)
    made_by = reference.by if isinstance(reference, ArtifactRef) else None
    maker = workspace.ledger.attempts([made_by]).get(made_by) if made_by else None
    source = maker or saved
    spec = source.spec
    return {
        "attempt": source.id,
        "saved_by": saved.id,
        **spec.key.to_mapping(),
        "entrypoint": spec.entrypoint.to_mapping(),
        "code": spec.code.digest if spec.code else None,
        "image": spec.agent.image,
        "inputs": {name: ref.to_mapping() for name, ref in spec.inputs.items()},
        "args": dict(spec.args),
        "seed": spec.seed,
        "granted": dict(source.grant.amounts) if source.grant else {},
        **{key: value for key, value in spec.lineage.items() if key in {"interval_end", "run_type", "try", "git_commit", "models"}},
    }
