"""Raw values: what each parser takes, what it refuses, and what it says then."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.errors import InvalidSpec, SecretExposed
from airflow_dla.specs import ExitReason, values

NO_NUMBERS = [True, False, None, "", "abc", "1,5", [1], {}, 1j, b"1"]
NOT_FINITE = [float("nan"), float("inf"), "nan", "-inf", "1e400", 1e308 * 10, 10**400, "9" * 400]


@pytest.mark.parametrize("raw", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize("parse", [values.number, values.amount, values.integer, values.natural, values.seconds])
def test_what_is_no_number_is_refused(parse: Any, raw: object):
    """Also truth values, which Python counts as numbers."""
    with pytest.raises(InvalidSpec, match=r"policy\.x must be"):
        parse(raw, "policy.x")


@pytest.mark.parametrize("raw", NOT_FINITE, ids=lambda raw: repr(raw)[:9])
def test_what_is_not_finite_is_refused(raw: object):
    """No amount is infinite, however it was written."""
    with pytest.raises(InvalidSpec, match="x must be a finite number, got"):
        values.number(raw, "x")


def test_a_number_too_long_to_show_is_refused_all_the_same():
    """Python refuses to write integers of more than 4,300 digits; the message does without."""
    with pytest.raises(InvalidSpec, match="x must be a finite number, got int, too long to show"):
        values.number(10**5000, "x")


@pytest.mark.parametrize(("raw", "found"), [(3, 3.0), ("3", 3.0), (" 2.5 ", 2.5), ("-1e3", -1000.0), (0, 0.0)])
def test_numbers_come_as_numbers_or_text(raw: object, found: float):
    """As JSON or Jinja left them."""
    assert values.number(raw, "x") == found


@pytest.mark.parametrize(("parse", "raw"), [(values.amount, -0.5), (values.amount, "-1"), (values.natural, -3), (values.seconds, -1)])
def test_negative_amounts_are_refused(parse: Any, raw: object):
    """The message holds the value and the rule."""
    with pytest.raises(InvalidSpec, match=r"gpus must be >= 0, got -(0\.5|1|3)"):
        parse(raw, "gpus")


@pytest.mark.parametrize("raw", [0, -1, "0"])
def test_positive_refuses_zero(raw: object):
    """A weight or a limit of nothing is a mistake."""
    with pytest.raises(InvalidSpec, match="weight must be > 0, got"):
        values.positive(values.number)(raw, "weight")


@pytest.mark.parametrize(("raw", "found"), [(2**53 + 1, 2**53 + 1), (str(2**53 + 1), 2**53 + 1), ("5.0", 5), (1e3, 1000), (" -7 ", -7)])
def test_whole_numbers_are_exact(raw: object, found: int):
    """Also beyond what a float holds."""
    assert values.integer(raw, "x") == found


@pytest.mark.parametrize("raw", [1.5, "1.5"])
def test_fractions_are_no_whole_numbers(raw: object):
    """Nothing is rounded in silence."""
    with pytest.raises(InvalidSpec, match=r"x must be a whole number, got 1\.5"):
        values.integer(raw, "x")


@pytest.mark.parametrize("raw", [2**64, -(2**65), "9" * 24, 1e300, 10**5000], ids=lambda raw: type(raw).__name__)
def test_whole_numbers_fit_64_bits(raw: object):
    """Databases and tensors hold no more."""
    with pytest.raises(InvalidSpec, match="x must have at most 64 bits, got one of"):
        values.integer(raw, "x")


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (90, 90.0),
        ("90", 90.0),
        ("90s", 90.0),
        ("1.5 h", 5400.0),
        ("2d", 172800.0),
        ("250ms", 0.25),
        (timedelta(minutes=2), 120.0),
        ("1e-05", 1e-05),
    ],
)
def test_durations(raw: object, found: float):
    """Plain seconds, a unit, or a timedelta."""
    assert values.seconds(raw, "x") == found


@pytest.mark.parametrize("raw", ["-5s", "2 weeks", "h", "1h30m", "∞"])
def test_durations_that_cannot_be_read(raw: str):
    """The message shows how to write one."""
    with pytest.raises(InvalidSpec, match="x must be a duration such as 90, '90s', '30m', '2h' or '1d', got"):
        values.seconds(raw, "x")


@pytest.mark.parametrize("raw", ["9" * 400 + "d", "1e308d"])
def test_durations_are_finite(raw: str):
    """Also where the unit makes them overflow."""
    with pytest.raises(InvalidSpec, match="x must be a finite number"):
        values.seconds(raw, "x")


@given(st.floats(min_value=0, max_value=1e15))
def test_a_duration_survives_jinja(value: float):
    """Every number of seconds is read back from its text."""
    assert values.seconds(str(value), "x") == value


@pytest.mark.parametrize(("raw", "found"), [(True, True), (False, False), ("true", True), (" False ", False), ("TRUE", True)])
def test_truth_values(raw: object, found: bool):
    """As YAML or Jinja left them."""
    assert values.boolean(raw, "x") is found


@pytest.mark.parametrize("raw", [0, 1, "yes", "", None])
def test_what_is_neither_true_nor_false(raw: object):
    """Nothing is guessed."""
    with pytest.raises(InvalidSpec, match="x must be true or false, got"):
        values.boolean(raw, "x")


@pytest.mark.parametrize("raw", ["", "  ", None, 3, b"x"])
def test_empty_text_is_refused(raw: object):
    """A name of blanks is no name."""
    with pytest.raises(InvalidSpec, match="name must be a non-empty string, got"):
        values.text(raw, "name")


@pytest.mark.parametrize("raw", ["a\0b", "\ud800"])
def test_text_that_databases_refuse(raw: str):
    """It is refused here, not in the middle of a transaction."""
    with pytest.raises(InvalidSpec, match="without NUL characters and lone surrogates"):
        values.text(raw, "name")


@pytest.mark.parametrize(
    "raw", ["postgresql://dla:hunter2@db/x", "s3://key:hunter2@bucket", "simplecache::s3://k:hunter2@b", "redis://:hunter2@h"]
)
def test_text_never_holds_a_url_with_a_password(raw: str):
    """The message does not repeat it."""
    with pytest.raises(SecretExposed, match="put it into an Airflow connection") as caught:
        values.text(raw, "args.url")
    assert "hunter2" not in str(caught.value)


def test_remarks_are_taken_as_they_are():
    """A message that a program wrote must never keep its end from being read."""
    assert values.remark("bad\0 \ud800 text", "x") == "bad� ? text"
    with pytest.raises(InvalidSpec, match="x must be a string, got int 3"):
        values.remark(3, "x")


@pytest.mark.parametrize("raw", ["digits", "a", "A.b_c-9", "x" * 63])
def test_identifiers(raw: str):
    """Good for labels, folders and keys alike."""
    assert values.identifier(raw, "x") == raw


@pytest.mark.parametrize("raw", ["-a", "a.", "a b", "a/b", "..", "ü", "x" * 64, "a@b", "a\n"])
def test_what_is_no_identifier(raw: str):
    """Nothing that a shell, a path or a label would read otherwise."""
    with pytest.raises(InvalidSpec, match=r"x must be 1 to 63 of A-Z a-z 0-9"):
        values.identifier(raw, "x")


@pytest.mark.parametrize("raw", ["maybe", None, []])
def test_choices_list_what_is_known(raw: object):
    """One of a few words."""
    with pytest.raises(InvalidSpec, match="x must be one of stream, copy, got"):
        values.choice("stream", "copy")(raw, "x")


@pytest.mark.parametrize("raw", ["fine", None, []])
def test_members_list_what_is_known(raw: object):
    """An enumeration's values, not its names."""
    with pytest.raises(InvalidSpec, match="x must be one of succeeded, user_error"):
        values.member(ExitReason)(raw, "x")


@pytest.mark.parametrize("raw", ["abc", b"abc", 3, {"a": 1}, {1, 2}], ids=repr)
def test_only_lists_are_lists(raw: object):
    """A string is not a list of its letters."""
    with pytest.raises(InvalidSpec, match="x must be a list, got"):
        values.sequence_of(values.text)(raw, "x")


def test_places_name_the_item():
    """An error deep inside says where."""
    with pytest.raises(InvalidSpec, match=r"x\.a\[1\] must be a number, got str 'y'"):
        values.mapping_of(values.sequence_of(values.number))({"a": [1, "y"]}, "x")


def test_a_mapping_rendered_to_text_gets_a_hint():
    """A template around a whole mapping gives its text."""
    with pytest.raises(InvalidSpec, match="put templates inside the mapping"):
        values.mapping("{'cpu': 1}", "request")


def test_long_values_are_cut():
    """A message stays readable."""
    with pytest.raises(InvalidSpec) as caught:
        values.mapping("x" * 10_000, "request")
    assert len(str(caught.value)) < 150


def test_unknown_keys_name_the_nearest():
    """A slip of the finger is not a mystery."""
    with pytest.raises(InvalidSpec, match=r"policy: unknown key 'priorty'; known are place, priority; did you mean 'priority'\?"):
        values.refuse_unknown({"priorty": 1}, ["place", "priority"], "policy")


def test_none_passes_where_it_may():
    """And only there."""
    assert values.optional(values.text)(None, "x") is None
    assert values.optional(values.text)("a", "x") == "a"


@pytest.mark.parametrize("raw", [None, True, 3, 2.5, "x", "", [1, [2]], {"a": {"b": None}}, 2**64 - 1])
def test_json_values_pass(raw: object):
    """Whatever JSON can say."""
    assert values.json_value(raw, "args") == raw


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({1, 2}, r"args must be a plain JSON value, got set"),
        (object, r"args must be a plain JSON value, got type"),
        (float("nan"), r"args must be a finite number, got float nan"),
        ({"a": [float("inf")]}, r"args\.a\[0\] must be a finite number"),
        ({"a": timedelta(1)}, r"args\.a must be a plain JSON value, got timedelta"),
        ({3: 1}, r"args key must be a non-empty string, got int 3"),
        (2**64, r"args must have at most 64 bits"),
        ("a\0", r"args must be text without NUL"),
    ],
)
def test_what_json_cannot_say(raw: object, message: str):
    """It would be lost or changed on its way."""
    with pytest.raises(InvalidSpec, match=message):
        values.json_value(raw, "args")


def test_tuples_become_lists():
    """As JSON would make them."""
    assert values.json_value({"a": (1, 2)}, "args") == {"a": [1, 2]}
