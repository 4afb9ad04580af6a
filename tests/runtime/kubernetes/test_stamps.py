"""However the connection breaks and the pieces are cut, what is read is what was written."""

from __future__ import annotations

import pytest
from fakes.kube.output import Output
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.runtime.kubernetes.stamps import Bookmark, StampedLines

SECOND = 10**9
START = 1_700_000_000 * SECOND
#: Pieces as a runtime cuts them: when, relative to the one before; whole lines, and parts of one.
PIECES = st.lists(
    st.tuples(st.sampled_from([0, 1, 999, SECOND // 2, 3 * SECOND, -400]), st.binary(max_size=12), st.booleans()), min_size=1, max_size=40
)


def written(pieces: list[tuple[int, bytes, bool]]) -> Output:
    """Return the log that has these pieces."""
    output, at = Output(), START
    for step, content, whole in pieces:
        at += step
        output.add(content.replace(b"\n", b".") + (b"\n" if whole else b"."), at)
    return output


def served(output: Output, bookmark: Bookmark) -> bytes:
    """Return what the API shows of what came since a bookmark."""
    return output.read(since=bookmark.since, timestamps=True)


@given(PIECES, st.lists(st.integers(0, 120), max_size=6), st.integers(1, 50))
def test_what_is_read_is_what_was_written(pieces: list[tuple[int, bytes, bool]], breaks: list[int], packet: int):
    """Whatever is sent again after a break is skipped, nothing is missed: equal times, long lines, two streams out of order."""
    output, bookmark, found = written(pieces), Bookmark(), b""
    for length in [*breaks, None]:
        sent = served(output, bookmark)[:length]
        lines = StampedLines(bookmark)
        for at in range(0, len(sent), packet):
            found += lines.feed(sent[at : at + packet])
        assert output.raw().startswith(found)
    assert found == output.raw()


def test_a_thousand_lines_of_one_moment():
    """Some runtimes give all lines of one read one time."""
    output, bookmark = Output(), Bookmark()
    for number in range(1000):
        output.add(b"%d\n" % number, START)
    sent = served(output, bookmark)
    found = StampedLines(bookmark).feed(sent[: len(sent) // 2])
    assert found + StampedLines(bookmark).feed(served(output, bookmark)) == output.raw()


def test_what_was_rotated_away_is_not_waited_for():
    """What is newer than the last that was read comes next."""
    output, bookmark = Output(), Bookmark()
    output.add(b"old\n", START)
    output.add(b"cut off", START + 1)
    assert StampedLines(bookmark).feed(served(output, bookmark)) == b"old\ncut off"
    output.rotate()
    output.add(b"new\n", START + SECOND)
    assert StampedLines(bookmark).feed(served(output, bookmark)) == b"new\n"


def test_a_zone_is_none_of_our_business():
    """Times of one moment are one, in whatever zone the node writes them."""
    bookmark = Bookmark()
    StampedLines(bookmark).feed(b"".join(b"2026-10-25T02:59:59.%09d+02:00 a\n" % number for number in range(1, 600)))
    assert bookmark.since == "2026-10-25T00:59:58Z"
    assert StampedLines(bookmark).feed(b"2026-10-25T00:59:58.1Z older\n2026-10-25T02:00:00+01:00 b\n") == b"b\n"


@pytest.mark.parametrize("said", [b"x" * 100, b"unable to retrieve container logs for containerd://0a"])
def test_lines_without_times_are_the_nodes(said: bytes):
    """They say why there is no log."""
    lines = StampedLines(Bookmark())
    assert lines.feed(b"2026-10-25T00:59:58.1Z a\n") == b"a\n"
    with pytest.raises(ValueError, match=said.decode()):
        lines.feed(said)
