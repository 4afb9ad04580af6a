"""Jobs: keys, policies and what is known before a launch."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import JobKey, JobPolicy, JobSpec

KEY = {"dag": "digits", "run": "manual__1", "task": "train"}
JOB: dict[str, Any] = {"key": KEY, "agent": {"name": "digits"}, "entrypoint": "a:b", "request": {"cpu": 1}}


def test_a_key_is_the_same_in_every_process():
    """Twenty hexadecimal digits that never change."""
    assert JobKey.from_mapping(KEY).id == "5dd14fe3bf2058318243"
    assert str(JobKey.from_mapping(KEY)) == "digits.train (manual__1)"


def test_mapped_tasks_have_keys_of_their_own():
    """One for each map index."""
    keys = [JobKey.from_mapping(KEY | {"index": index}) for index in (-1, 0, "1")]
    assert len({key.id for key in keys}) == 3
    assert str(keys[2]) == "digits.train[1] (manual__1)"
    with pytest.raises(InvalidSpec, match=r"map index >= 0, or -1 for a task that is not mapped, got -2"):
        JobKey.from_mapping(KEY | {"index": -2})


def test_ids_do_not_run_into_each_other():
    """A separator inside an id does not make two keys one."""
    assert JobKey(dag="a", run="b.c", task="d").id != JobKey(dag="a.b", run="c", task="d").id


def test_the_authors_words_for_timeouts():
    """Durations as people write them."""
    policy = JobPolicy.from_mapping({"wait_timeout": "2h", "run_timeout": 90, "grace": "1m"})
    assert (policy.wait_timeout_s, policy.run_timeout_s, policy.grace_s) == (7200.0, 90.0, 60.0)
    assert JobPolicy.from_mapping(policy.to_mapping()) == policy


def test_a_timeout_is_given_once():
    """Which of two would win is nobody's guess."""
    with pytest.raises(InvalidSpec, match="policy: 'wait_timeout' and 'wait_timeout_s' are the same; give one"):
        JobPolicy.from_mapping({"wait_timeout": 1, "wait_timeout_s": 2})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"wait_timeout": -1}, r"policy\.wait_timeout_s must be >= 0, got -1"),
        ({"wait_timeout": "soon"}, "must be a duration such as"),
        ({"run_timeout": 0}, r"policy\.run_timeout_s must be > 0, got 0"),
        ({"infra_retries": -1}, r"policy\.infra_retries must be >= 0, got -1"),
        ({"priority": 1.5}, "must be a whole number"),
        ({"priority": True}, "must be a number, got bool True"),
        ({"preemptible": "maybe"}, "must be true or false"),
        ({"team": "a b"}, r"policy\.team must be 1 to 63"),
        ({"place": ""}, r"policy\.place must be a non-empty string"),
        ({"wait_timout": 3}, "did you mean 'wait_timeout'"),
        ({"overrides": "x"}, r"policy\.overrides must be a mapping"),
    ],
)
def test_policies_that_make_no_sense(raw: dict[str, Any], message: str):
    """Each with the rule it breaks."""
    with pytest.raises(InvalidSpec, match=message):
        JobPolicy.from_mapping(raw)


def test_a_wait_of_nothing_is_a_policy():
    """Granted at once or not at all."""
    assert JobPolicy.from_mapping({"wait_timeout": 0}).wait_timeout_s == 0.0


def test_outputs_differ():
    """Two outputs of one name would be one folder."""
    with pytest.raises(InvalidSpec, match=r"outputs must differ, got model twice \(job digits\.train"):
        JobSpec.from_mapping(JOB | {"outputs": ["model", "report", "model"]})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"outputs": ["../x"]}, r"job\.outputs\[0\] must be 1 to 63"),
        ({"outputs": "model"}, r"job\.outputs must be a list, got str 'model'"),
        ({"inputs": {"train": None}}, r"job\.inputs\.train is None where a reference is expected"),
        ({"inputs": {"a/b": {"dla": "uri", "uri": "s3://x"}}}, r"job\.inputs key must be 1 to 63"),
        ({"args": [1]}, r"job\.args must be a mapping"),
        ({"seed": -1}, r"job\.seed must be >= 0"),
        ({"request": {"cpu": "-1"}}, r"job\.request\.cpu: cannot read '-1'"),
        ({"key": {}}, r"job\.key lacks dag, run, task"),
    ],
)
def test_jobs_that_make_no_sense(raw: dict[str, Any], message: str):
    """The place is the field's, however deep."""
    with pytest.raises(InvalidSpec, match=message):
        JobSpec.from_mapping(JOB | raw)
