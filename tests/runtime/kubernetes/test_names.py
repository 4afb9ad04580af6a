"""What objects are called, and found by."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.runtime.kubernetes import names

Make = Callable[..., Any]
DNS = re.compile(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
KEY = re.compile(r"airflow-dla/[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")

attempts = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}\.\d{1,3}", fullmatch=True)


@given(workspace=st.text(min_size=1, max_size=40), one=attempts, other=attempts)
def test_a_name_is_a_hosts_and_one_attempts_alone(workspace: str, one: str, other: str):
    """Whatever workspace and attempt are, a cluster takes the name, and two attempts never share one."""
    assert DNS.fullmatch(names.name(workspace, one))
    assert (names.name(workspace, one) == names.name(workspace, other)) == (one == other)


def test_names_that_differ_in_a_dot_alone():
    """What separates the job from its number stays the last thing before a number."""
    assert names.name("w", "a-1.2") == "dla-w-a-1-2"
    assert names.name("w", "a.12") == "dla-w-a-12"
    assert len(names.name("/my workspace", "A.1")) <= 52


@given(value=st.text(min_size=1, max_size=80))
def test_a_label_is_one_that_clusters_take(value: str):
    """A value that no label may have is found by its digest."""
    assert LABEL.fullmatch(names.label(value))


@given(people=st.dictionaries(st.text(min_size=1, max_size=80), st.text(max_size=20), max_size=4))
def test_notes_for_people_are_not_ours(people: dict[str, str], launch: Make):
    """Whatever people's labels are called, the keys are those that clusters take, and ours say what we say."""
    found = names.notes(launch(labels={**people, "job": "x", "attempt": "other.1"}), "python:3.12")
    assert all(KEY.fullmatch(key) for key in found)
    assert (found[names.ATTEMPT], found[names.IMAGE]) == ("0d9f.2", "python:3.12")
    assert found[names.JOB].startswith("{")


def test_the_attempt_of_an_object():
    """The annotation says it whole; a label may be a digest."""
    assert names.attempt_of({"metadata": {"labels": {names.ATTEMPT: "0d9f.2"}}}) == "0d9f.2"
    assert names.attempt_of({"metadata": {"labels": {names.ATTEMPT: "c8"}, "annotations": {names.ATTEMPT: "a b.1"}}}) == "a b.1"
    assert names.attempt_of({"metadata": {}}) is None
