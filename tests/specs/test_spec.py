"""The base of every word: fields, defaults, and mappings that Jinja has yet to render."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import AgentSpec, JobKey, JobPolicy, ModelRef, UriRef
from airflow_dla.specs.spec import templated


class Output:
    """An upstream task's output, as Airflow sees it."""

    def iter_references(self) -> Iterator[tuple[object, str]]:
        """Yield the task it waits for."""
        yield self, "return_value"


def test_missing_fields_are_named():
    """Beside what was given."""
    with pytest.raises(InvalidSpec, match="job key lacks run, task; it has dag"):
        JobKey.from_mapping({"dag": "d"})
    with pytest.raises(InvalidSpec, match="job key lacks dag, run, task; it has nothing"):
        JobKey.from_mapping({})


def test_the_place_is_the_callers():
    """An error names where the mapping came from."""
    with pytest.raises(InvalidSpec, match=r"task 'train' policy\.priority must be a number"):
        JobPolicy.from_mapping({"priority": "high"}, "task 'train' policy")


def test_only_what_differs_is_written():
    """A mapping stays small enough for XCom."""
    assert JobPolicy().to_mapping() == {}
    assert JobPolicy(priority=2).to_mapping() == {"priority": 2}


def test_words_are_frozen():
    """Nobody changes a word that others hold."""
    with pytest.raises(AttributeError):
        JobPolicy().priority = 3  # type: ignore[misc]


@pytest.mark.parametrize("raw", ["{{ ds }}", ["a", "{% if x %}"], {"a": ({"b": "x{{ y }}"},)}, Output(), {"a": [Output()]}], ids=repr)
def test_templates_and_outputs_are_found_anywhere(raw: object):
    """However deep they are."""
    assert templated(raw)


@pytest.mark.parametrize("raw", [None, 3, "{x}", "{inputs.train}", [], {"a": {"b": "c"}}], ids=repr)
def test_plain_values_hold_no_template(raw: object):
    """The placeholders of a command are not Jinja's."""
    assert not templated(raw)


def test_a_draft_without_templates_is_checked_whole():
    """As the task itself will check it."""
    assert JobPolicy.draft({"wait_timeout": "2h"}) == {"wait_timeout_s": 7200.0}
    with pytest.raises(InvalidSpec, match="grace_s"):
        JobPolicy.draft({"grace": -1})


def test_a_draft_keeps_templates_and_checks_the_rest():
    """What is known at parse time is checked at parse time."""
    draft = AgentSpec.draft({"name": "digits", "image": "x:{{ params.v }}", "request": {"cpu": Output()}, "env": {"A": 1}})
    assert draft["image"] == "x:{{ params.v }}"
    assert draft["env"] == {"A": "1"}
    with pytest.raises(InvalidSpec, match=r"agent\.env\.A must be a string or a number"):
        AgentSpec.draft({"name": "{{ x }}", "env": {"A": True}})
    with pytest.raises(InvalidSpec, match=r"unknown key 'imgae'; .* did you mean 'image'"):
        AgentSpec.draft({"name": "{{ x }}", "imgae": "y"})


def test_a_draft_of_a_reference_says_what_it_is():
    """Also before its name is rendered."""
    assert ModelRef.draft({"model": "{{ params.m }}@champion"}) == {"dla": "model", "model": "{{ params.m }}@champion"}
    assert UriRef.draft({"uri": "s3://b/{{ ds }}"})["dla"] == "uri"


def test_a_draft_of_short_names_is_read_when_it_is_rendered():
    """The author's names for timeouts may hold templates too."""
    draft = JobPolicy.draft({"wait_timeout": "{{ params.wait }}"})
    assert JobPolicy.from_mapping(draft | {"wait_timeout_s": "30m"}).wait_timeout_s == 1800.0
