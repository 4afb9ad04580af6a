"""What an engine sends, cut anywhere, comes out whole."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.runtime.chunks import Dechunker
from airflow_dla.runtime.docker.frames import Demultiplexer

OUTPUT = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=12)
CUTS = st.lists(st.integers(1, 30), min_size=1, max_size=8)


def framed(output: list[tuple[int, bytes]]) -> bytes:
    """Return what an engine makes of output."""
    return b"".join(struct.pack(">BxxxL", stream, len(data)) + data for stream, data in output)


def chunked(data: bytes, sizes: list[int]) -> bytes:
    """Return what HTTP makes of it, in chunks of these sizes by turns."""
    pieces = cut(data, sizes)
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Return pieces of these sizes by turns."""
    pieces, turn = [], 0
    while data:
        size = sizes[turn % len(sizes)]
        pieces.append(data[:size])
        data, turn = data[size:], turn + 1
    return pieces


@given(OUTPUT, CUTS, CUTS)
def test_any_cut_gives_the_same(output: list[tuple[int, bytes]], chunks: list[int], packets: list[int]):
    """However the frames lie in chunks and the chunks in packets, each stream's bytes come out in order."""
    http, frames = Dechunker(), Demultiplexer()
    found = [pair for packet in cut(chunked(framed(output), chunks), packets) for pair in frames.feed(http.feed(packet))]
    assert http.ended
    assert not frames.within
    assert b"".join(data for _, data in found) == b"".join(data for _, data in output)
    for stream in (1, 2):
        assert b"".join(d for s, d in found if s == stream) == b"".join(d for s, d in output if s == stream)


def test_what_follows_the_end_is_not_taken():
    """Bytes after the last chunk belong to another answer."""
    http = Dechunker()
    assert http.feed(b"1;name=value\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK") == b"a"
    assert http.feed(b"more") == b""


@pytest.mark.parametrize("garbage", [b"zz\r\n", b"x" * 5000])
def test_no_chunks(garbage: bytes):
    """Something else than chunks is refused, and not collected either."""
    with pytest.raises(ValueError, match=r"invalid literal|short line"):
        Dechunker().feed(garbage)


def test_no_frames():
    """A terminal's raw output is refused with the likely reason."""
    with pytest.raises(ValueError, match="terminal"):
        Demultiplexer().feed(b"hello world")
