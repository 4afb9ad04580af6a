"""Agents: entrypoints, metrics, environment and secrets."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.errors import InvalidSpec, SecretExposed
from airflow_dla.specs import NO_AGENT, AgentSpec, Entrypoint


@pytest.mark.parametrize("raw", ["digits_agent:train", "acme.digits:Trainer", "_a:_b"])
def test_functions(raw: str):
    """A module and a function."""
    found = Entrypoint.parse(raw, "x")
    assert found == Entrypoint(function=raw)
    assert str(found) == found.to_mapping() == raw


@pytest.mark.parametrize("raw", [["python", "train.py"], ("./run", "", "--x=1")])
def test_commands(raw: Any):
    """A program and its leading arguments, also empty ones."""
    found = Entrypoint.parse(raw, "x")
    assert found.command == tuple(raw)
    assert found.to_mapping() == list(raw)
    assert str(found) == " ".join(raw)


def test_an_entrypoint_is_taken_as_it_is():
    """One that was read already."""
    found = Entrypoint(function="a:b")
    assert Entrypoint.parse(found, "x") is found


@pytest.mark.parametrize("raw", ["python train.py", "train", "a:b:c", "1a:b", "a-b:c", [], [1], {"a": 1}, None, b"ab", {"python"}])
def test_what_is_no_entrypoint(raw: object):
    """The message shows both forms."""
    with pytest.raises(InvalidSpec, match=r"entrypoint must be 'module:function' or a command such as \['python', 'train.py'\]"):
        Entrypoint.parse(raw, "entrypoint")


@pytest.mark.parametrize("raw", [["", "x"], ["python", "a\0b"]])
def test_commands_that_no_system_runs(raw: list[str]):
    """An empty program, a NUL in an argument."""
    with pytest.raises(InvalidSpec, match=r"entrypoint\[\d\] must be"):
        Entrypoint.parse(raw, "entrypoint")


def test_a_command_line_holds_no_password():
    """Everybody on a machine reads command lines."""
    with pytest.raises(SecretExposed, match=r"entrypoint\[1\]"):
        Entrypoint.parse(["train", "--db=postgresql://me:hunter2@db/x"], "entrypoint")


def test_an_agent_lists_its_entrypoints():
    """A verb that is not there is answered with those that are."""
    agent = AgentSpec.from_mapping({"name": "digits", "entrypoints": {"train": "a:b"}})
    assert agent.entrypoint("train") == Entrypoint(function="a:b")
    with pytest.raises(InvalidSpec, match="agent 'digits' has no entrypoint 'tune'; it has train; add one or pass entrypoint="):
        agent.entrypoint("tune")
    with pytest.raises(InvalidSpec, match="it has none"):
        AgentSpec.from_mapping(NO_AGENT).entrypoint("train")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"auc=\S+", "must have exactly one group, the number; .* has 0"),
        (r"(a)=(\S+)", r"has 2; write others as \(\?:…\)"),
        (r"auc=(\S+", "is no regular expression"),
        (r"(a{99999999999})", "is no regular expression"),
        ("", "must be a non-empty string"),
    ],
)
def test_metrics_are_patterns_with_one_group(pattern: str, message: str):
    """The group is the number."""
    with pytest.raises(InvalidSpec, match=rf"agent\.metrics\.auc.*{message}"):
        AgentSpec.from_mapping({"name": "x", "metrics": {"auc": pattern}})


@pytest.mark.parametrize("raw", [{"A": True}, {"A": None}, {"A": ["x"]}, {"A": "x\0"}, {"1A": "x"}, {"A=B": "x"}, {"": "x"}])
def test_environments_that_no_process_has(raw: dict[str, Any]):
    """Refused here, not when the process starts."""
    with pytest.raises(InvalidSpec, match=r"agent\.env"):
        AgentSpec.from_mapping({"name": "x", "env": raw})


def test_numbers_in_an_environment_become_text():
    """As they would in a shell; an empty value stays."""
    assert AgentSpec.from_mapping({"name": "x", "env": {"A": 1, "B": 2.5, "C": ""}}).env == {"A": "1", "B": "2.5", "C": ""}


def test_an_environment_holds_no_password():
    """That is what secrets are for."""
    with pytest.raises(SecretExposed):
        AgentSpec.from_mapping({"name": "x", "env": {"DB": "postgresql://me:hunter2@db/x"}})


def test_secrets_name_a_place_and_are_not_repeated():
    """The secret itself never goes into a DAG, nor into the message."""
    assert AgentSpec.from_mapping({"name": "x", "secrets": {"TOKEN": "conn:hub"}}).secrets == {"TOKEN": "conn:hub"}
    with pytest.raises(InvalidSpec, match="'conn:ID', 'var:NAME' or 'file:PATH'") as caught:
        AgentSpec.from_mapping({"name": "x", "secrets": {"TOKEN": "hunter2"}})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("field", ["signature", "volumes", "server", "env", "secrets", "metrics", "entrypoints"])
def test_mappings_are_mappings(field: str):
    """A string is not one."""
    with pytest.raises(InvalidSpec, match=rf"agent\.{field} must be a mapping, got str"):
        AgentSpec.from_mapping({"name": "x", field: "text"})


def test_code_may_be_in_the_image():
    """None differs from the default and survives."""
    agent = AgentSpec.from_mapping({"name": "x", "code": None})
    assert agent.to_mapping() == {"name": "x", "code": None}
    assert AgentSpec.from_mapping({"name": "x"}).code == "."
