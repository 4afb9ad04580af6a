"""What is said of attempts in containers, read as values."""

from __future__ import annotations

from airflow_dla.runtime.facts import Staged, seconds


def test_staged():
    """What was published is references, and an error is its reason and message."""
    digest = "sha256:" + "0" * 64
    staged = Staged.from_mapping({"outputs": {"model": {"dla": "artifact", "digest": digest}}, "peaks": {"memory": 1.5}, "error": None})
    assert (staged.outputs["model"].digest, staged.peaks, staged.error) == (digest, {"memory": 1.5}, None)
    assert Staged.from_mapping({"error": ["lost", "the store is full"]}).error == ("lost", "the store is full")


def test_times():
    """Times have nanoseconds and zones; never is 0."""
    assert seconds("2026-11-22T23:00:00Z") == seconds("2026-11-23T00:00:00+01:00") == seconds("2026-11-22T23:00:00.000000001Z")
    assert (seconds("0001-01-01T00:00:00Z"), seconds(None), seconds("")) == (0.0, 0.0, 0.0)
