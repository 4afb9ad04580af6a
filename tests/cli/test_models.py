"""``airflow dla models``."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.cli.reach import Reach

HERE = ("--conn-id", "dla_test")
SIGNATURE = {"inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 64]}], "outputs": [{"name": "y", "dtype": "int64", "shape": [-1]}]}


@pytest.fixture
def models(reach: Reach) -> Reach:
    """Return a workspace with two versions of a model, and a third that its callers could not call."""
    for number, width in ((1, 64), (2, 64), (3, 32)):
        inputs = [{"name": "x", "dtype": "float32", "shape": [-1, width]}]
        reach.registry.register(
            "digits",
            digest=f"sha256:{number:064d}",
            signature={**SIGNATURE, "inputs": inputs},
            metrics={"accuracy": 0.9 + number / 100},
            lineage={"dag": "d"},
            registered_by=f"job.{number}",
        )
    return reach


def test_promote_and_roll_back(dla: Any, models: Reach) -> None:
    """An alias moves to a version and back, and the log says who and why."""
    assert dla("models", "promote", "digits", "1", *HERE, "--json").document["moved"]
    second = dla("models", "promote", "digits", "2", "--why", "better", *HERE, "--json").document
    assert (second["moved"], second["number"], second["previous"]) == (True, 2, 1)
    back = dla("models", "rollback", "digits", *HERE)
    assert (back.status, models.registry.aliases("digits")[0].number) == (0, 1)
    shown = dla("models", "show", "digits", *HERE, "--json").document
    assert shown["aliases"]["champion"] == 1
    assert [version["version"] for version in shown["versions"]] == [3, 2, 1]
    assert "better" in {move["why"] for move in shown["log"]}
    said = dla("models", "show", "digits", *HERE).out
    assert "accuracy 0.91" in said


def test_a_misfit_needs_force(dla: Any, models: Reach) -> None:
    """A version that callers could not call is refused, unless it is forced."""
    dla("models", "promote", "digits", "1", *HERE)
    assert dla("models", "promote", "digits", "3", *HERE).status == 1
    assert models.registry.aliases("digits")[0].number == 1
    assert dla("models", "promote", "digits", "3", "--force", *HERE).status == 0


def test_list(dla: Any, models: Reach) -> None:
    """Models are listed with their newest version and their aliases."""
    dla("models", "promote", "digits", "2", "--alias", "challenger", *HERE)
    listed = dla("models", "list", *HERE, "--json").document["models"]
    assert listed == [{"model": "digits", "versions": 3, "latest": 3, "aliases": {"challenger": 2}}]
    assert "challenger@2" in dla("models", "list", *HERE).out


def test_what_is_not_there(dla: Any, models: Reach) -> None:
    """Unknown models, versions and aliases are refused with those there are."""
    assert "known are digits" in dla("models", "show", "digit", *HERE).err
    assert dla("models", "promote", "digits", "9", *HERE).status == 1
    assert dla("models", "rollback", "digits", "--alias", "nobody", *HERE).status == 1
