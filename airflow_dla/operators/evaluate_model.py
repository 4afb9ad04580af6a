"""The verb *evaluate*: metrics, a report, and a gate."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from airflow_dla.control import Workspace
from airflow_dla.errors import GateFailed
from airflow_dla.ledger import Attempt
from airflow_dla.operators.failing import failing_for_good
from airflow_dla.operators.job import JobOperator
from airflow_dla.operators.results import made_by, result
from airflow_dla.registry.gate import Judgement, check_require, judge
from airflow_dla.specs import ArtifactRef


class EvaluateModelOperator(JobOperator):
    """Runs the agent's entrypoint ``evaluate``, publishes a report, and fails the task when a gate does not hold.

    Parameters
    ----------
    require : dict of expression to rule, optional
        ``{"accuracy": ">= 0.95", "accuracy - champion.accuracy": ">= 0"}``. A rule that names
        a metric of an input that was missing and allowed to be
        (``champion=model("digits@champion", missing="skip")``) is skipped.
    **kwargs
        As `JobOperator`. The output ``report`` is always there.
    """

    verb: ClassVar[str] = "evaluate"
    template_fields: Sequence[str] = (*JobOperator.template_fields, "require")
    ui_color = "#fbe9ec"

    def __init__(self, *, require: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.require = require

    def execute(self, context: Context) -> dict[str, Any]:
        """Refuse a gate that cannot be read, then run the job."""
        with failing_for_good():
            check_require(self.require or {})
        return super().execute(context)

    def deliver(self, context: Context, attempt: Attempt) -> dict[str, Any]:
        """Publish the report and judge the metrics.

        Raises
        ------
        GateFailed
            With the numbers, when a rule does not hold; the XComs are there all the same.
        """
        assert attempt.exit is not None
        left_out = attempt.spec.lineage.get("left_out", [])
        judgements = judge(self.require or {}, attempt.exit.metrics, left_out=left_out)
        report = publish_report(self.hook.get_conn(), attempt, judgements)
        values = {"report": report.to_mapping(), **result(attempt)}
        for judgement in judgements:
            self.log.info("Gate: %s", judgement)
        broken = [judgement for judgement in judgements if not judgement.held]
        if broken:
            for key, value in values.items():
                context["ti"].xcom_push(key=key, value=value)
            raise GateFailed(f"the gate does not hold: {'; '.join(map(str, broken))} (report {report.digest})")
        return values


def publish_report(workspace: Workspace, attempt: Attempt, judgements: Sequence[Judgement]) -> ArtifactRef:
    """Publish ``report.json``: metrics, gate, verdict, and what was evaluated on what."""
    assert attempt.exit is not None
    verdict = "none" if not judgements else "passed" if all(one.held for one in judgements) else "failed"
    report = {
        "metrics": dict(attempt.exit.metrics),
        "gate": [judgement.to_mapping() for judgement in judgements],
        "verdict": verdict,
        "inputs": {name: ref.to_mapping() for name, ref in attempt.spec.inputs.items()},
    }
    with tempfile.TemporaryDirectory(prefix="dla-report-") as folder:
        Path(folder, "report.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return made_by(workspace.store.publish(Path(folder), kind="report"), attempt)
