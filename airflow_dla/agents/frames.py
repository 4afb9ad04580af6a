"""Pieces of known length on a stream whose end nobody can rely on.

What is sent into a pod, and what comes back, goes through an API server and a kubelet; a
way that breaks looks like one that is quiet. So each piece says its kind and its length: JSON,
bytes, or the end of all. ``airflow_dla.runtime.kubernetes.frames`` says the same words.
"""

from __future__ import annotations

import json
import os
import select
import struct
from typing import Any, Callable, Iterator, Tuple

JSON, DATA, END = b"J", b"D", b"E"
#: Bytes of a piece, and the most that one may have.
PIECE = 1 << 20
LARGEST = 1 << 28

_HEAD = struct.Struct(">cI")
_IDLE_S = 120.0


class Broken(Exception):
    """Raised when a stream ends, or says nothing for long, before it is complete."""


def framed(kind: bytes, payload: bytes = b"") -> bytes:
    """Return one piece as it is sent.

    Examples
    --------
    >>> framed(DATA, b"abc").hex()
    '4400000003616263'
    """
    return _HEAD.pack(kind, len(payload)) + payload


def framed_json(value: Any) -> bytes:
    """Return a piece of JSON as it is sent."""
    return framed(JSON, json.dumps(value, separators=(",", ":")).encode())


def read(descriptor: int, *, idle_s: float = _IDLE_S) -> Iterator[Tuple[bytes, bytes]]:
    """Yield kind and payload of every piece up to the end of all.

    Raises
    ------
    Broken
        If it ends before, is quiet for `idle_s` seconds, or is no such stream.
    """
    while True:
        kind, length = _HEAD.unpack(_exactly(descriptor, _HEAD.size, idle_s))
        if kind not in (JSON, DATA, END) or length > LARGEST:
            raise Broken(f"the stream is damaged: a piece of kind {kind!r} with {length} bytes")
        if kind == END:
            return
        yield kind, _exactly(descriptor, length, idle_s)


def read_json(descriptor: int) -> Any:
    """Return the one piece of JSON that a stream begins with."""
    for kind, payload in read(descriptor):
        if kind == JSON:
            return json.loads(payload)
    raise Broken("the stream holds no JSON")


def writer(descriptor: int) -> Callable[[bytes], None]:
    """Return what writes all of some bytes."""

    def write(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return write


def _exactly(descriptor: int, size: int, idle_s: float) -> bytes:
    found = bytearray()
    while len(found) < size:
        if not select.select([descriptor], [], [], idle_s)[0]:
            raise Broken(f"nothing came for {idle_s:g} s")
        piece = os.read(descriptor, min(size - len(found), PIECE))
        if not piece:
            raise Broken(f"the stream ended {size - len(found)} bytes early")
        found += piece
    return bytes(found)
