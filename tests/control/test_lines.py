"""Tests of taking a job's log apart."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.control.lines import LONGEST, RateCap, read

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
    assert cap.admit(("12345678", "123456789"), now=0.0) == ["12345678"]
    passed = cap.admit(("abc",), now=1.0)
    assert "10 bytes of log left out" in passed[0]
    assert passed[1] == "abc"
    assert cap.flush() == []
