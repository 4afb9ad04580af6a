"""``airflow dla shadow``, against a server that answers as Airflow's REST API does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.airflow_rest import TOKEN, serving

MAPPING = """
tasks:
  - {dag: report*}
  - {pool: gpu_vision, per_slot: {gpu: 1, cpu: 4}, team: vision, preemptible: true}
  - {pool: gpu_speech, task: train*, request: {cpu: 2}, per_slot: {gpu: 1}, team: speech, priority: 3}
teams:
  vision: {guaranteed: {gpu: 1}}
  speech: {guaranteed: {gpu: 1}}
nodes:
  - {name: n1, capacity: {gpu: 2, cpu: 16}}
restart: 30s
"""


def instance(task: str, ready: int, began: int, ended: int | None, pool: str = "gpu_vision", **fields: Any) -> dict[str, Any]:
    """Make a task instance as the API writes it; times in minutes."""

    def written(minutes: int | None) -> str | None:
        return None if minutes is None else f"2026-01-01T{minutes // 60:02d}:{minutes % 60:02d}:00+00:00"

    row = {
        "dag_id": "ocr", "dag_run_id": f"run-{ready}", "task_id": task, "map_index": -1, "try_number": 1, "pool": pool, "pool_slots": 1,
        "operator": "KubernetesPodOperator", "priority_weight": 1, "scheduled_when": written(ready), "queued_when": written(began),
        "start_date": written(began), "end_date": written(ended), "state": "success",
    }  # fmt: skip
    return {**row, **fields}


#: Vision's pool of one slot serves one after the other, while the other GPU idles.
ROWS = [
    instance("train_a", 0, 0, 60),
    instance("train_b", 0, 60, 120),
    instance("train_c", 10, 120, 130, pool="gpu_speech"),
    instance("mail", 0, 0, 1, dag_id="report_daily"),
    instance("wait", 5, 5, None),
    instance("other", 0, 0, 5, pool="default_pool"),
    instance("huge", 0, 0, 5, pool_slots=9),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of what tasks use."""
    path = tmp_path / "mapping.yaml"
    path.write_text(MAPPING, encoding="utf-8")
    return path


def test_reads_the_history_over_rest_and_says_what_would_have_changed(
    dla: Any, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both GPUs at once instead of one after the other; what is left out is counted, every grant and reason told."""
    monkeypatch.setenv("DLA_AIRFLOW_TOKEN", TOKEN)
    plot = tmp_path / "shadow.html"
    with serving(ROWS) as server:
        found = dla("shadow", str(file), "--url", server.url, "--plot", str(plot), "--json").document
        asked = server.asked
    assert len(asked) == 4
    assert "start_date_gte" in asked[0]
    assert found["jobs"] == 3
    assert {name: count for name, count in found["left_out"].items() if name != "larger_than_every_node"} == {
        "unmatched": 1,
        "unfinished": 1,
        "asking_for_nothing": 1,
    }
    assert (
        "asks 36 cpu" in found["left_out"]["larger_than_every_node"][0]["why"]
        or "gpu" in found["left_out"]["larger_than_every_node"][0]["why"]
    )
    assert found["happened"]["all"]["wait_mean_s"] == pytest.approx((0 + 60 + 110) / 3 * 60)
    assert found["ours"]["all"]["wait_mean_s"] < found["happened"]["all"]["wait_mean_s"]
    assert found["ours"]["all"]["useful_gpu_hours"] == pytest.approx(130 / 60, rel=0.01)
    assert {grant["job"].split("[")[0] for grant in found["grants"]} == {"ocr.train_a", "ocr.train_b", "ocr.train_c"}
    assert any("as long as it took" in line for line in found["assumptions"])
    page = plot.read_text(encoding="utf-8")
    assert "<svg" in page
    assert "http" not in page
    assert "src=" not in page


def test_speaks_to_people_from_saved_answers_and_kubernetes_nodes(dla: Any, file: Path, tmp_path: Path) -> None:
    """Files instead of servers: task instances, nodes, and pods that are not Airflow's."""
    saved, nodes, pods = tmp_path / "ti.json", tmp_path / "nodes.json", tmp_path / "pods.json"
    saved.write_text(json.dumps({"task_instances": ROWS}), encoding="utf-8")
    node = {
        "metadata": {"name": "gpu-1", "labels": {"nvidia.com/gpu.product": "NVIDIA-H200"}},
        "status": {"allocatable": {"cpu": "32", "memory": "64Gi", "nvidia.com/gpu": "3"}},
    }
    nodes.write_text(json.dumps({"items": [node]}), encoding="utf-8")
    other = {"spec": {"nodeName": "gpu-1", "containers": [{"resources": {"requests": {"nvidia.com/gpu": "1", "cpu": "500m"}}}]}}
    listed = [
        {**other, "metadata": {"name": "notebook"}, "status": {"phase": "Running"}},
        {**other, "metadata": {"name": "task", "labels": {"dag_id": "ocr"}}, "status": {"phase": "Running"}},
        {**other, "metadata": {"name": "gone"}, "status": {"phase": "Succeeded"}},
    ]
    pods.write_text(json.dumps({"items": listed}), encoding="utf-8")
    said = dla("shadow", str(file), "--task-instances", str(saved), "--nodes", str(nodes), "--pods", str(pods))
    assert said.status == 0, said.err
    assert "happened" in said.out
    assert "WAITED FOR" in said.out
    assert "- what tasks used is what the file says" in said.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "lacks tasks"),
        ("tasks: [{pool: a, per_slots: {gpu: 1}}]", "per_slots"),
        ("tasks: [{pool: a, per_slot: {gpus: 1}}]", "gpus"),
        ("tasks: [{pool: nothing, per_slot: {gpu: 1}}]\nnodes: [{name: n, capacity: {gpu: 1}}]", "7 match no rule"),
        ("tasks: [{pool: a, per_slot: {gpu: 1}}]", "names no nodes"),
        ("tasks: [{pool: a}]\npolicy: {strategy: best}", "strategy"),
    ],
)
def test_a_bad_mapping_is_one_clear_error(dla: Any, file: Path, tmp_path: Path, text: str, said: str) -> None:
    """Nothing is asked of the server before."""
    file.write_text(text, encoding="utf-8")
    saved = tmp_path / "ti.json"
    saved.write_text(json.dumps(ROWS), encoding="utf-8")
    ended = dla("shadow", str(file), "--task-instances", str(saved))
    assert ended.status == 1
    assert said in ended.err


def test_secrets_come_from_the_environment(dla: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, or with a wrong one, it says where it belongs."""
    monkeypatch.delenv("DLA_AIRFLOW_TOKEN", raising=False)
    assert "DLA_AIRFLOW_TOKEN" in dla("shadow", str(file), "--url", "http://127.0.0.1:9").err
    monkeypatch.setenv("DLA_AIRFLOW_TOKEN", "wrong")
    with serving(ROWS) as server:
        assert "refuses this user or token" in dla("shadow", str(file), "--url", server.url).err
