"""Tests of the gate, the report, and the version that comes of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowFailException
from fixtures_airflow import MakeTask, context

from airflow_dla import model
from airflow_dla.control import Workspace
from airflow_dla.hooks import DlaHook
from airflow_dla.operators import EvaluateModelOperator, SaveModelOperator
from airflow_dla.operators.save_model import read_json

pytestmark = pytest.mark.usefixtures("embedded")


def workspace() -> Workspace:
    """Return the embedded workspace."""
    return DlaHook().workspace()


def evaluate(make_task: MakeTask, ctx: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Run an evaluation whose job measures the accuracy it is told."""
    task = make_task(EvaluateModelOperator, task_id=ctx["ti"].task_id, entrypoint="agent_code:write", outputs=["out"], **kwargs)
    return task.execute(ctx)


@pytest.fixture
def a_model(tmp_path: Path) -> dict[str, Any]:
    """Return a reference to a model in the store that says its signature."""
    folder = tmp_path / "model"
    folder.mkdir()
    tensor = {"name": "x", "dtype": "float32", "shape": [-1, 4]}
    (folder / "signature.json").write_text(json.dumps({"inputs": [tensor], "outputs": [{**tensor, "name": "y"}]}))
    (folder / "model.onnx").write_bytes(b"\x08\x07")
    return workspace().store.publish(folder, kind="model").to_mapping()


def save(make_task: MakeTask, ctx: dict[str, Any], inputs: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Save a model as ``digits`` under the alias ``champion``."""
    task = make_task(SaveModelOperator, task_id=ctx["ti"].task_id, model="digits", inputs=inputs, alias="champion", **kwargs)
    return task.execute(ctx)


def test_a_gate_that_holds_publishes_its_report(make_task: MakeTask) -> None:
    """Metrics, gate and verdict stand in the report."""
    values = evaluate(make_task, context("gate"), require={"accuracy": ">= 0.8"})
    report = read_json(workspace(), values["report"]["digest"], "report.json")
    assert report["verdict"] == "passed"
    assert report["metrics"] == {"accuracy": 0.9}
    assert report["gate"][0]["held"] is True


def test_a_gate_that_breaks_fails_for_good_with_the_numbers(make_task: MakeTask) -> None:
    """No retry makes a model better; the report is there all the same."""
    ctx = context("gate")
    with pytest.raises(AirflowFailException, match=r"accuracy = 0\.9, required >= 0\.95"):
        evaluate(make_task, ctx, require={"accuracy": ">= 0.95"})
    report = read_json(workspace(), ctx["ti"].pushed["report"]["digest"], "report.json")
    assert report["verdict"] == "failed"


def test_without_a_champion_the_comparison_is_skipped(make_task: MakeTask) -> None:
    """The first run has nothing to beat."""
    values = evaluate(
        make_task,
        context("gate"),
        inputs={"champion": model("digits@champion", missing="skip")},
        require={"accuracy - champion.accuracy": ">= 0"},
    )
    assert read_json(workspace(), values["report"]["digest"], "report.json")["gate"][0]["value"] is None


def test_a_gate_that_cannot_be_read_launches_nothing(make_task: MakeTask) -> None:
    """A typing error is found before the job runs."""
    with pytest.raises(AirflowFailException, match="comparison"):
        evaluate(make_task, context("gate"), require={"accuracy": "high"})
    assert workspace().ledger.jobs() == ()


def test_a_saved_model_is_a_version_with_its_metrics_and_lineage(make_task: MakeTask, a_model: dict[str, Any]) -> None:
    """It becomes champion, and Airflow hears of the asset."""
    report = evaluate(make_task, context("gate"), require={"accuracy": ">= 0.8"})["report"]
    ctx = context("save")
    values = save(make_task, ctx, {"model": {**a_model, "by": "unknown.1"}, "report": report})
    assert values == {"model": {"dla": "model", "model": "digits@1", "digest": a_model["digest"]}, "version": 1, "promoted": True}
    (version,) = workspace().ledger.model_versions("digits")
    assert version.metrics == {"accuracy": 0.9}
    assert version.signature["inputs"][0]["name"] == "x"
    assert version.lineage["task"] == "save"
    (alias,) = workspace().ledger.aliases("digits")
    assert (alias.alias, alias.number) == ("champion", 1)
    (event,) = ctx["outlet_events"].values()
    assert event.extra["version"] == 1


def test_the_lineage_is_that_of_the_job_that_made_the_model(make_task: MakeTask, tmp_path: Path) -> None:
    """Code, arguments and seed of the training, not of the saving."""
    made = evaluate(make_task, context("train"), args={"seed": 7})["out"]
    (tmp_path / "signed").mkdir()
    (tmp_path / "signed" / "signature.json").write_text('{"inputs": [], "outputs": []}')
    signed = workspace().store.publish(tmp_path / "signed", kind="model").to_mapping()
    save(make_task, context("save"), {"model": {**signed, "by": made["by"]}})
    lineage = workspace().ledger.model_versions("digits")[0].lineage
    assert lineage["task"] == "train"
    assert lineage["seed"] == 7
    assert lineage["code"].startswith("sha256:")


def test_a_failed_gate_does_not_move_the_alias(make_task: MakeTask, a_model: dict[str, Any]) -> None:
    """The version is registered; the champion stays."""
    ctx = context("gate")
    with pytest.raises(AirflowFailException):
        evaluate(make_task, ctx, require={"accuracy": ">= 0.95"})
    values = save(make_task, context("save"), {"model": a_model, "report": ctx["ti"].pushed["report"]})
    assert values["promoted"] is False
    assert workspace().ledger.aliases("digits") == ()


def test_an_old_run_registers_and_leaves_the_champion(make_task: MakeTask, a_model: dict[str, Any]) -> None:
    """A cleared run of last year never takes over from this year's."""
    save(make_task, context("save"), {"model": a_model})
    old = context("save", run_id="old")
    old["dag_run"].data_interval_end = datetime(2025, 1, 1, tzinfo=UTC)
    assert save(make_task, old, {"model": a_model})["promoted"] is False
    assert workspace().ledger.aliases("digits")[0].number == 1


def test_a_retry_registers_no_second_version(make_task: MakeTask, a_model: dict[str, Any]) -> None:
    """A try lost between registering and its end changes nothing."""
    save(make_task, context("save"), {"model": a_model})
    assert save(make_task, context("save", try_number=2), {"model": a_model})["version"] == 1


def test_a_pickle_is_refused(make_task: MakeTask, tmp_path: Path) -> None:
    """Reading a pickle runs whatever it says."""
    import pickle  # noqa: PLC0415 - to make what must be refused

    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "model.bin").write_bytes(pickle.dumps({"w": [1, 2]}))
    made = workspace().store.publish(tmp_path / "pickled", kind="model").to_mapping()
    with pytest.raises(Exception, match=r"model\.bin.*pickle"):
        save(make_task, context("save"), {"model": made})
    assert workspace().ledger.model_versions() == ()


def test_a_templated_name_emits_through_an_alias(make_task: MakeTask) -> None:
    """Which model is only known when the task runs."""
    fixed = make_task(SaveModelOperator, model="digits", inputs={})
    templated = make_task(SaveModelOperator, model="{{ params.model }}", inputs={})
    assert [type(outlet) for outlet in fixed.outlets] == [Asset]
    assert [type(outlet) for outlet in templated.outlets] == [AssetAlias]


def test_saving_without_a_model_is_refused(make_task: MakeTask) -> None:
    """The missing input is named."""
    with pytest.raises(AirflowFailException, match="needs inputs"):
        save(make_task, context("save"), {})
