"""The frames of a websocket, as a client writes and reads them.

References
----------
RFC 6455, The WebSocket Protocol, section 5.
"""

from __future__ import annotations

import os
import struct
from typing import Final

CONTINUED: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

_FINAL: Final = 0x80
_MASKED: Final = 0x80
_SHORT: Final = 126
_LONG: Final = 127
_LARGEST: Final = 1 << 26


def frame(opcode: int, payload: bytes, *, masked: bool = True) -> bytes:
    """Return a whole frame.

    Parameters
    ----------
    opcode : int
    payload : bytes
    masked : bool
        As a client must; a server must not.
    """
    size, mask = len(payload), _MASKED if masked else 0
    if size < _SHORT:
        head = struct.pack(">BB", _FINAL | opcode, mask | size)
    elif size < 1 << 16:
        head = struct.pack(">BBH", _FINAL | opcode, mask | _SHORT, size)
    else:
        head = struct.pack(">BBQ", _FINAL | opcode, mask | _LONG, size)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + unmasked(payload, key)


def unmasked(payload: bytes, key: bytes) -> bytes:
    """Return a payload with its mask put on, or taken off.

    Examples
    --------
    >>> unmasked(unmasked(b"hello", b"abcd"), b"abcd")
    b'hello'
    """
    size = len(payload)
    whole = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


class Frames:
    """Takes frames apart, cut anywhere, and puts the parts of a message together.

    Examples
    --------
    >>> frames, sent = Frames(), frame(BINARY, b"abc", masked=False)
    >>> frames.feed(sent[:3]), frames.feed(sent[3:])
    ([], [(2, b'abc')])
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._message: tuple[int, bytes] | None = None

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return the messages that these bytes complete: pairs of an opcode and a payload.

        Raises
        ------
        ValueError
            If these are no frames, or one is larger than any server's.
        """
        self._data += data
        found = []
        while (taken := self._taken()) is not None:
            final, opcode, payload = taken
            if opcode == CONTINUED and self._message is not None:
                opcode, payload = self._message[0], self._message[1] + payload
            if final:
                found.append((opcode, payload))
            if opcode < CLOSE:
                self._message = None if final else (opcode, payload)
        return found

    def _taken(self) -> tuple[bool, int, bytes] | None:
        """Return the first frame, if it is whole: whether it ends its message, its opcode and its payload."""
        if len(self._data) < 2:  # noqa: PLR2004 - opcode and size
            return None
        size, at = self._data[1] & ~_MASKED, 2
        if size >= _SHORT:
            width = 2 if size == _SHORT else 8
            if len(self._data) < at + width:
                return None
            size, at = int.from_bytes(self._data[at : at + width], "big"), at + width
        if size > _LARGEST:
            raise ValueError(f"a frame of a websocket has {_LARGEST} bytes at most here, got {size}")
        key_at, at = at, at + (4 if self._data[1] & _MASKED else 0)
        if len(self._data) < at + size:
            return None
        payload, first, key = bytes(self._data[at : at + size]), self._data[0], bytes(self._data[key_at:at])
        del self._data[: at + size]
        return bool(first & _FINAL), first & 0x0F, unmasked(payload, key) if key else payload
