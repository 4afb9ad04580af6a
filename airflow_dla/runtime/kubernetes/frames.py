"""Pieces of known length on a stream into or out of a pod, whose end nobody can rely on.

The same words as ``airflow_dla.agents.frames``, written again because what is mounted into
images is imported by nothing else; one test holds both together.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

from airflow_dla.errors import PlaceUnavailable

JSON: Final = b"J"
DATA: Final = b"D"
END: Final = b"E"
#: What no reader takes: it gives up at once.
BROKEN: Final = b"X"
#: Bytes of a piece.
PIECE: Final = 1 << 20

_HEAD: Final = struct.Struct(">cI")


def framed(kind: bytes, payload: bytes = b"") -> bytes:
    """Return one piece as it is sent."""
    return _HEAD.pack(kind, len(payload)) + payload


def framed_json(value: Any) -> bytes:
    """Return a piece of JSON as it is sent."""
    return framed(JSON, json.dumps(value, separators=(",", ":")).encode())


def read(stream: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and payload of every piece up to the end of all.

    Parameters
    ----------
    stream : iterable of bytes
        Cut anywhere.

    Raises
    ------
    PlaceUnavailable
        If it ends before.

    Examples
    --------
    >>> list(read([framed_json(1)[:3], framed_json(1)[3:] + framed(END)]))
    [(b'J', b'1')]
    """
    pieces, held = iter(stream), bytearray()
    while True:
        _fill(pieces, held, _HEAD.size)
        kind, length = _HEAD.unpack(held[: _HEAD.size])
        if kind not in (JSON, DATA, END):
            raise PlaceUnavailable(f"what comes from the pod is damaged: a piece of kind {kind!r}; it is asked for again")
        _fill(pieces, held, _HEAD.size + length)
        payload = bytes(held[_HEAD.size : _HEAD.size + length])
        del held[: _HEAD.size + length]
        if kind == END:
            return
        yield kind, payload


def _fill(pieces: Iterator[bytes], held: bytearray, size: int) -> None:
    while len(held) < size:
        piece = next(pieces, None)
        if piece is None:
            raise PlaceUnavailable("what comes from the pod ended too early; it is asked for again")
        held += piece
