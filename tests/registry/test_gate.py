"""Tests of gates on a model's metrics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.errors import InvalidSpec
from airflow_dla.registry.gate import check_require, judge

METRICS = {"accuracy": 0.97, "champion.accuracy": 0.96, "loss": 0.1}


@pytest.mark.parametrize(
    ("expression", "rule", "held"),
    [
        ("accuracy", ">= 0.97", True),
        ("accuracy", "> 0.97", False),
        ("accuracy - champion.accuracy", ">= 0", True),
        ("champion.accuracy - accuracy", ">= 0", False),
        ("loss * 10 + 1", "== 2", True),
        ("-loss", "< -.05", True),
        ("accuracy / loss", ">= 9.7", True),
        ("accuracy", "!= 1e0", True),
    ],
)
def test_rules(expression: str, rule: str, held: bool) -> None:
    """Arithmetic over metrics, compared with a number."""
    (one,) = judge({expression: rule}, METRICS)
    assert one.held is held


def test_a_rule_about_a_missing_input_is_skipped() -> None:
    """The first model has no champion to beat."""
    (one,) = judge({"accuracy - champion.accuracy": ">= 0"}, {"accuracy": 0.9}, left_out=["champion"])
    assert one.held
    assert one.value is None
    assert "skipped" in str(one)


@pytest.mark.parametrize(
    "expression", ["__import__('os')", "accuracy.__class__()", "[1]", "a if b else c", "", "a ** 9", "lambda: 1", "'x'"]
)
def test_nothing_but_arithmetic_is_read(expression: str) -> None:
    """A gate is no program."""
    with pytest.raises(InvalidSpec):
        check_require({expression: ">= 0"})


@pytest.mark.parametrize("rule", ["0.9", ">= x", ">=", "=> 1", ">= 1; 2"])
def test_a_rule_is_a_comparison_with_a_number(rule: str) -> None:
    """Anything else is refused before a job is launched."""
    with pytest.raises(InvalidSpec, match="comparison"):
        check_require({"accuracy": rule})


def test_a_metric_that_was_not_measured_is_named() -> None:
    """The message lists what was measured."""
    with pytest.raises(InvalidSpec, match=r"no 'f1'; it measured accuracy"):
        judge({"f1": ">= 0.5"}, METRICS)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_it_agrees_with_python(value: float, bound: float) -> None:
    """A judgement is the comparison it says."""
    assert judge({"m": f">= {bound!r}"}, {"m": value})[0].held is (value >= bound)
