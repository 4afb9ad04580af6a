"""Laws of every word: it writes itself as JSON, and reads back as the same word."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from specs.strategies import WORDS

from airflow_dla import specs
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import (
    Account,
    Demand,
    Expected,
    Grant,
    JobFile,
    JobKey,
    JobPolicy,
    KeeperFile,
    Node,
    PlacePolicy,
    Request,
    Spec,
    TeamSpec,
)

EVERY = pytest.mark.parametrize("word", WORDS, ids=lambda word: word.__name__)
NUMERIC = [Account, Demand, Expected, Grant, JobKey, JobPolicy, KeeperFile, Node, PlacePolicy, Request, TeamSpec]


def _as_jinja_leaves_it(raw: Any) -> Any:
    """Turn every number into text, as a template does."""
    if isinstance(raw, dict):
        return {key: value if key == "overrides" else _as_jinja_leaves_it(value) for key, value in raw.items()}
    if isinstance(raw, list):
        return [_as_jinja_leaves_it(item) for item in raw]
    return raw if raw is None else str(raw)


def test_every_word_has_a_strategy():
    """A word without a strategy would not be held to these laws."""
    words = {
        found
        for name in specs.__all__
        if isinstance(found := getattr(specs, name), type) and hasattr(found, "from_mapping") and found is not Spec
    }
    assert words == set(WORDS)


@EVERY
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_word_survives_json(word: Any, data: st.DataObject):
    """What is written, sent as JSON and read is equal, and written the same again."""
    first = data.draw(WORDS[word])
    written = first.to_mapping()
    second = word.from_mapping(json.loads(json.dumps(written, allow_nan=False)))
    assert second == first
    assert second.to_mapping() == written


@pytest.mark.parametrize("word", NUMERIC, ids=lambda word: word.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_numbers_may_come_as_text(word: Any, data: st.DataObject):
    """Jinja renders every number as text; the word is the same."""
    first = data.draw(WORDS[word])
    assert word.from_mapping(_as_jinja_leaves_it(first.to_mapping())) == first


@EVERY
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_word_reads_itself(word: Any, data: st.DataObject):
    """A word that was read already is taken as it is."""
    first = data.draw(WORDS[word])
    assert word.from_mapping(first) is first


@EVERY
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_word_shares_nothing_with_what_it_was_read_from(word: Any, data: st.DataObject):
    """Emptying the mapping afterwards changes nothing."""
    written = data.draw(WORDS[word]).to_mapping()
    read = word.from_mapping(written)
    expected = read.to_mapping()
    for value in written.values():
        if isinstance(value, (dict, list)):
            value.clear()
    assert read.to_mapping() == expected


@EVERY
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_unknown_keys_are_refused(word: Any, data: st.DataObject):
    """A key nobody knows is an error that lists the known ones."""
    written = data.draw(WORDS[word]).to_mapping()
    with pytest.raises(InvalidSpec, match=r"unknown key 'surprise'; known are \w+"):
        word.from_mapping(written | {"surprise": 1})


@EVERY
@pytest.mark.parametrize("raw", [None, 3, "text", ["list"], {1: "x"}], ids=repr)
def test_only_mappings_with_text_keys_are_read(word: Any, raw: object):
    """Anything else is refused, with its type named."""
    with pytest.raises(InvalidSpec, match=type(raw).__name__ if not isinstance(raw, dict) else "keys must be strings"):
        word.from_mapping(raw)


@pytest.mark.parametrize("word", [JobFile, KeeperFile, specs.JobSpec, specs.Exit], ids=lambda word: word.__name__)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_records_carry_their_protocol(word: Any, data: st.DataObject):
    """The version is written also where it is the current one, and only it and the one before are read."""
    written = data.draw(WORDS[word]).to_mapping()
    assert written["protocol"] in {specs.PROTOCOL - 1, specs.PROTOCOL}
    assert word.from_mapping(written | {"protocol": specs.PROTOCOL - 1}).protocol == specs.PROTOCOL - 1
    with pytest.raises(InvalidSpec, match=r"reads protocol 1 and the one before, got 2; run one version everywhere"):
        word.from_mapping(written | {"protocol": specs.PROTOCOL + 1})
