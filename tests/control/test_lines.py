"""Tests of taking a job's log apart."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.control.lines import LONGEST, RateCap, WaitingLines, read, waiting_line
from airflow_dla.specs import Reason

NONCE = "0123456789abcdef"


def say(**event: object) -> bytes:
    """Return one of the runner's lines."""
    return f"::dla:{NONCE}::{json.dumps(event)}\n".encode()


def test_events_are_told_from_the_log() -> None:
    """The runner's lines become events, everything else stays log."""
    said = read(b"one\n" + say(kind="metric", name="loss", value=1) + b"two\n", NONCE)
    assert said.lines == ("one", "two")
    assert said.events == ({"kind": "metric", "name": "loss", "value": 1},)


def test_an_event_behind_an_unfinished_line_is_found() -> None:
    """A progress bar without a newline does not hide an event."""
    said = read(b"50%" + say(kind="note") + b"", NONCE)
    assert said.lines == ("50%",)
    assert said.events == ({"kind": "note"},)


def test_a_program_cannot_forge_an_event() -> None:
    """A line with another nonce, or without JSON behind it, is log."""
    said = read(b'::dla:other::{"kind": "metric"}\n' + f"::dla:{NONCE}::oops\n".encode(), NONCE)
    assert said.events == ()
    assert len(said.lines) == 2


def test_binary_bytes_are_shown_escaped() -> None:
    """Bytes that are no UTF-8 do not stop the reader."""
    assert read(b"\xff\x00\n", NONCE).lines == ("\\xff\x00",)


def test_an_endless_line_is_passed_on_in_pieces() -> None:
    """A line longer than the limit does not wait for its end."""
    data = b"x" * (LONGEST + 1)
    assert read(data, NONCE).consumed == len(data)
    assert read(b"x" * LONGEST, NONCE).consumed == 0


def test_lines_of_two_streams_do_not_mix() -> None:
    """What standard error says amid a line of standard output is told when it ends, and marked."""
    said = read(b"ste" + b"slow\n" + b"p 1\n" + b"disk", NONCE, last=True, errors=[(3, 8), (12, 16)])
    assert said.lines == ("slow", "step 1", "disk")
    assert said.errors == {0, 2}
    assert read(b"one\n", NONCE).errors is None


def test_an_event_amid_standard_error_is_found() -> None:
    """A progress bar on standard error does not hide what the runner says."""
    said = read(b"50%" + say(kind="note"), NONCE, errors=[(0, 3)])
    assert (said.lines, said.events, said.errors) == (("50%",), ({"kind": "note"},), {0})


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=9)), max_size=20))
def test_each_stream_has_its_own_lines(runs: list[tuple[bool, bytes]]) -> None:
    """However two streams are woven, each one's lines are those that it has alone."""
    at, errors = 0, []
    for error, run in runs:
        errors += [(at, at + len(run))] if error else []
        at += len(run)
    said = read(b"".join(run for _, run in runs), NONCE, last=True, errors=errors)
    for error in (False, True):
        alone = read(b"".join(run for which, run in runs if which is error), NONCE, last=True).lines
        assert tuple(line for number, line in enumerate(said.lines) if (number in (said.errors or ())) is error) == alone


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=20), st.integers(1, 50))
def test_slices_lose_and_repeat_nothing(lines: list[bytes], size: int) -> None:
    """However a log is cut into slices, the same lines come out."""
    data = b"".join(line + b"\n" for line in lines)
    whole = read(data, NONCE).lines
    offset, found = 0, []
    reach = size
    while offset < len(data):
        said = read(data[offset : offset + reach], NONCE)
        reach = size if said.consumed else reach + size
        offset += said.consumed
        found += said.lines
    assert tuple(found) == whole


def test_the_rate_cap_says_what_it_left_out() -> None:
    """What is above the rate is counted, and the count is said."""
    cap = RateCap(rate=10, burst=10, left=10)
    assert [cap.admit(line, now=0.0) for line in ("12345678", "123456789")] == [["12345678"], []]
    passed = cap.admit("abc", now=1.0)
    assert "10 bytes of log left out" in passed[0]
    assert passed[1] == "abc"
    assert cap.flush() == []


def waits(text: str, start: float | None = None) -> Reason:
    """Return a reason to wait."""
    return Reason(binding="cpu", text=text, expected_start=start)


def test_a_forecast_is_told_in_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hour today, the date beyond that; a forecast that has passed is none."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        lines = [waiting_line(waits("x", start), 1_000_000_000.0) for start in (1_000_003_600.0, 1_000_100_000.0, 999_999_999.0)]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert lines == [
        "Waiting for resources: x (expected to start about 04:46 CEST)",
        "Waiting for resources: x (expected to start about 2001-09-10 07:33 CEST)",
        "Waiting for resources: x",
    ]


@given(st.lists(st.tuples(st.integers(1, 99), st.sampled_from(["cpu", "gpu"])), max_size=300))
def test_however_a_wait_changes_it_says_a_line_in_ten_seconds_at_most(changes: list[tuple[int, str]]) -> None:
    """Rounds come every second; new reasons are told within ten, new numbers within five minutes."""
    said, heard = WaitingLines(), []
    for second, (position, resource) in enumerate(changes):
        heard += [(second, line) for line in said.admit(waits(f"number {position}: needs 1 more {resource}"), 0.0, float(second))]
    assert all(later - earlier >= 10 for (earlier, _), (later, _) in itertools.pairwise(heard))
    assert bool(heard) == bool(changes)


def test_a_new_reason_is_told_and_a_new_position_is_not() -> None:
    """What waits for another resource says so; what only moves up says nothing for a while."""
    said = WaitingLines()
    asked = [
        ("number 3: needs 1 cpu", 0.0),
        ("number 2: needs 1 cpu", 60.0),
        ("number 2: needs 1 gpu", 61.0),
        ("number 1: needs 1 gpu", 400.0),
    ]
    assert [len(said.admit(waits(text), 0.0, at)) for text, at in asked] == [1, 0, 1, 1]
