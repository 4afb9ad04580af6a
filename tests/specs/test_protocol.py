"""What the runtime and the runner tell each other."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.errors import InvalidSpec, SecretExposed
from airflow_dla.specs import LINE_KINDS, MAX_LINE, JobFile, KeeperFile

JOB: dict[str, Any] = {
    "attempt": "0123.1",
    "nonce": "n",
    "entrypoint": ["python", "train.py"],
    "grant": {"id": "0123.1", "node": "laptop"},
    "store": "/var/dla/store",
    "checkpoint": "0123",
}


def test_a_job_file_without_a_version_is_of_this_one():
    """A person may write one by hand."""
    assert JobFile.from_mapping(JOB).to_mapping()["protocol"] == 1


def test_a_store_carries_no_password():
    """``job.json`` lies on a disk."""
    with pytest.raises(SecretExposed, match=r"job\.json\.store"):
        JobFile.from_mapping(JOB | {"store": "s3://key:hunter2@bucket"})


@pytest.mark.parametrize(
    "raw", [{"grace_s": -1}, {"run_timeout_s": 0}, {"seed": -1}, {"env": {"A": None}}, {"attempt": ""}, {"grant": None}]
)
def test_job_files_that_make_no_sense(raw: dict[str, Any]):
    """The place is the file's."""
    with pytest.raises(InvalidSpec, match=rf"job\.json\.{next(iter(raw))}"):
        JobFile.from_mapping(JOB | raw)


@pytest.mark.parametrize("pid", [0, -1])
def test_a_keeper_is_a_process(pid: int):
    """Zero and less would name process groups."""
    with pytest.raises(InvalidSpec, match=r"keeper\.json\.pid must be"):
        KeeperFile.from_mapping({"pid": pid, "boot_id": "b", "start_ticks": 1})


def test_lines_have_known_kinds_and_a_longest():
    """Numbers that both sides keep to."""
    assert MAX_LINE == 65_536
    assert {"metric", "heartbeat", "checkpoint", "output", "error"} <= set(LINE_KINDS)
