"""``airflow dla agents``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_dla.cli.reach import Reach
from airflow_dla.specs import AgentSpec

YAML = "name: digits\nrequest: {cpu: 1-2}\nentrypoints: {train: 'digits_work:train'}\n"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return a folder with an agent's code and its description."""
    (tmp_path / "digits_work.py").write_text("def train(job): ...\n", encoding="utf-8")
    (tmp_path / "digits.yaml").write_text(YAML, encoding="utf-8")
    return tmp_path


def test_list_and_show(dla: Any, reach: Reach) -> None:
    """Agents are listed by name and shown as they were written."""
    agent = AgentSpec.from_mapping({"name": "digits", "entrypoints": {"train": "digits_work:train"}})
    reach.ledger.put_agent(agent)
    assert dla("agents", "list", "--conn-id", "dla_test", "--json").document == {"agents": [agent.to_mapping()]}
    assert "digits  train" in dla("agents", "list", "--conn-id", "dla_test").out
    assert dla("agents", "show", "digits", "--conn-id", "dla_test", "--json").document == agent.to_mapping()
    unknown = dla("agents", "show", "digit", "--conn-id", "dla_test")
    assert unknown.status == 1
    assert "known are digits" in unknown.err


def test_check_a_file(dla: Any, code: Path) -> None:
    """A good description is shown as it was understood."""
    ended = dla("agents", "check", str(code / "digits.yaml"), "--json")
    assert ended.status == 0
    assert ended.document["request"] == {"cpu": "1.0-2.0"}


def test_check_a_python_value(dla: Any, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value in a module of the present folder is checked as well, templates and all."""
    lines = ["from airflow_dla import agent", "AGENT = agent('digits', entrypoints={'train': 'digits_work:train'}, env={'A': '{{ ds }}'})"]
    (code / "some_dag.py").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(code)
    assert dla("agents", "check", "some_dag:AGENT", "--json").document["env"] == {"A": "{{ ds }}"}
    assert "does not define 'OTHER'" in dla("agents", "check", "some_dag:OTHER").err
    assert "cannot be imported" in dla("agents", "check", "no_such_dag:AGENT").err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: digits\nentrypoint: {}", "did you mean 'entrypoints'"),
        ("name: digits\nentrypoints: {train: 'digits_work:trian'}", "does not define 'trian'"),
        ("name: digits\nentrypoints: {train: 'missing_work:train'}", "no module 'missing_work'"),
        ("name: digits\nentrypoints: {train: [python, train.py]}", "no file 'train.py'"),
        ("name: digits\nsecrets: {TOKEN: hush}", "where the secret is"),
    ],
)
def test_check_refuses(dla: Any, code: Path, text: str, said: str) -> None:
    """A description that would fail later fails here, with the way out."""
    (code / "bad.yaml").write_text(text, encoding="utf-8")
    ended = dla("agents", "check", str(code / "bad.yaml"))
    assert ended.status == 1
    assert said in ended.err
