"""The helpers of a DAG's author: plain dicts, checked when they are written."""

from __future__ import annotations

import json

import pytest

from airflow_dla import agent, model, uri
from airflow_dla.errors import InvalidSpec, SecretExposed
from airflow_dla.specs import AgentSpec, ModelRef, UriRef


def test_helpers_return_plain_dicts():
    """Airflow looks for outputs of other tasks only there, and JSON takes them."""
    made = [agent("digits", entrypoints={"train": "a:b"}, request={"cpu": "1-2"}), model("digits@champion"), uri("s3://b/x", mode="copy")]
    for found, word in zip(made, (AgentSpec, ModelRef, UriRef), strict=True):
        assert type(found) is dict
        assert word.from_mapping(json.loads(json.dumps(found))).to_mapping() == found


def test_mistakes_are_found_where_they_are_written():
    """When the DAG file is read, not when a task runs."""
    with pytest.raises(InvalidSpec, match=r"unknown key 'requets'; .* did you mean 'request'"):
        agent("digits", requets={"cpu": 1})
    with pytest.raises(InvalidSpec, match="NAME@VERSION or NAME@ALIAS"):
        model("digits")
    with pytest.raises(SecretExposed):
        uri("s3://key:hunter2@bucket/x")
    with pytest.raises(InvalidSpec, match="missing must be one of error, skip"):
        model("digits@1", missing="ignore")


def test_templates_wait_for_the_task():
    """What Jinja renders later is checked then."""
    assert model("{{ params.model }}@champion") == {"dla": "model", "model": "{{ params.model }}@champion", "missing": "error"}
    assert agent("digits", request={"cpu": "{{ params.cpu }}"})["request"] == {"cpu": "{{ params.cpu }}"}
    assert uri("{{ var.value.bucket }}/x")["uri"] == "{{ var.value.bucket }}/x"
