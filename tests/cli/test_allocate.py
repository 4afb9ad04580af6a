"""``airflow dla allocate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def problem(folder: Path, text: str) -> str:
    """Write a problem and return its path."""
    path = folder / "problem"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_grants_what_fits(dla: Any, tmp_path: Path) -> None:
    """50 and 30 at 80: both are granted, and nothing has a price."""
    file = problem(tmp_path, "capacity: {cpu: 80}\nrequests: [{name: a, cpu: 50}, {name: b, cpu: 30}]")
    found = dla("allocate", file, "--json")
    assert found.status == 0
    assert found.document == {"grants": {"a": {"cpu": 50}, "b": {"cpu": 30}}, "waiting": {}, "prices": {"cpu": 0.0}, "reasons": {}}


def test_says_who_waits_and_why(dla: Any, tmp_path: Path) -> None:
    """50 and 30 at 60: the second waits, with its reason in the document and in the table."""
    file = problem(tmp_path, '{\n\t"capacity": {"cpu": 60},\n\t"requests": [{"name": "a", "cpu": 50}, {"name": "b", "cpu": 30}]}')
    document = dla("allocate", file, "--json").document
    assert document["grants"] == {"a": {"cpu": 50}}
    assert document["waiting"]["b"]["binding"] == "cpu"
    assert document["waiting"]["b"]["shortfall"] == 20
    said = dla("allocate", file).out
    assert document["reasons"]["b"] in said
    assert "50 cpu" in said


def test_takes_a_policy(dla: Any, tmp_path: Path) -> None:
    """Ranges are shed as the file's policy says."""
    text = "capacity: {cpu: 60}\nrequests: [{name: a, cpu: 0-50}, {name: b, cpu: 0-30}]\npolicy: {shedding: water-filling}"
    assert dla("allocate", problem(tmp_path, text), "--json").document["grants"] == {"a": {"cpu": 30}, "b": {"cpu": 30}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("capacity: [", "neither YAML nor JSON"),
        ("capacity: {cpu: 80}\nrequest: []", "did you mean 'requests'"),
        ("capacity: {cpu: -1}\nrequests: []", "-1"),
        ("- 1", "must be a mapping"),
    ],
)
def test_refuses_a_bad_file(dla: Any, tmp_path: Path, text: str, said: str) -> None:
    """A file that breaks a rule is one message and exit status 1."""
    ended = dla("allocate", problem(tmp_path, text), "--json")
    assert (ended.status, ended.out) == (1, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_refuses_what_cannot_be_read(dla: Any, tmp_path: Path) -> None:
    """A file that is missing or no text is named."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "UTF-8" in dla("allocate", str(tmp_path / "binary")).err
    missing = dla("allocate", str(tmp_path / "missing"))
    assert (missing.status, missing.err) == (1, f"airflow dla: {tmp_path}/missing: No such file or directory\n")
