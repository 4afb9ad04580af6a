"""Flags for commands that know nothing of us, and metrics read from what they print."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.agents.command import Readings, fill, flags
from airflow_dla.agents.protocol import JobError

PLACES = {"inputs.train": "/in/train", "outputs.model": "/out/model", "checkpoint": "/ckpt", "seed": "7"}


def test_flags():
    """Numbers, truth, lists, nothing and placeholders become the flags that argparse reads."""
    args = {"lr": 3e-4, "n": 5, "amp": True, "no": False, "none": None, "ks": [1, "b"], "data": "{inputs.train}/x.csv", "cfg": {"a": 1}}
    expected = ["--lr", "0.0003", "--n", "5", "--amp", "--ks", "1", "b", "--data", "/in/train/x.csv", "--cfg"]
    assert flags(args, PLACES) == [*expected, '{"a": 1}']


@pytest.mark.parametrize("text", ["{}", '{"a": 1}', "{other}", "{{x}}", "{inputs}"])
def test_other_braces_stay(text: str):
    """Only our placeholders are replaced."""
    assert fill(text, PLACES) == text


def test_unknown_placeholder():
    """A placeholder of something the job has not is refused, with what it has."""
    with pytest.raises(JobError, match=r"\{inputs.test\} names nothing.*\{inputs.train\}"):
        fill("{inputs.test}", PLACES)


@given(st.lists(st.integers(0, 999), max_size=20), st.data())
def test_readings_do_not_depend_on_the_cut(numbers: list[int], data: Any):
    """However the bytes are cut, every line's metric is found once."""
    text = b"".join(b"noise %d\nauc=%d%s" % (n, n, data.draw(st.sampled_from([b"\n", b"\r", b"\r\n"]))) for n in numbers)
    found: list[dict[str, float]] = []
    readings = Readings({"auc": r"auc=(\d+)"}, found.append)
    while text:
        size = data.draw(st.integers(1, len(text)))
        readings.feed(text[:size])
        text = text[size:]
    readings.close()
    assert found == [{"auc": float(n)} for n in numbers]


def test_readings_pass_over_what_is_no_number():
    """A match that is no number, and bytes that are no text, do no harm."""
    found: list[dict[str, float]] = []
    readings = Readings({"auc": r"auc=(\S+)", "loss": r"loss=(\S+)"}, found.append)
    readings.feed(b"\xff\xfe auc=high loss=0.5,\nauc=97%")
    readings.close()
    assert found == [{"loss": 0.5}, {"auc": 97.0}]
