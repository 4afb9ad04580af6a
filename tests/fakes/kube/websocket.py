"""The server's side of a command's websocket: version 4 or 5 of the channel protocol."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha1
from typing import Any

from fakes.kube.resources import Refused

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Socket:
    """A websocket with a client; the streams of the command that runs for it.

    Parameters
    ----------
    reader, writer : file
        Of the connection.
    protocol : str
        ``v4.channel.k8s.io`` or ``v5.channel.k8s.io``.
    """

    def __init__(self, reader: Any, writer: Any, protocol: str) -> None:
        self._reader = reader
        self._writer = writer
        self._closes = protocol.startswith("v5")

    def read(self) -> Iterator[bytes]:
        """Yield what comes on standard input, until the client says its end or hangs up."""
        while (found := self._frame()) is not None:
            opcode, payload = found
            if opcode == 8:
                return
            if opcode == 9:
                self._send(10, payload)
            elif opcode == 2 and payload[:1] == b"\xff" and self._closes:
                return
            elif opcode in (1, 2) and payload[:1] == b"\x00":
                yield payload[1:]

    def write(self, data: bytes, *, error: bool = False) -> None:
        """Write to standard output or standard error."""
        for at in range(0, len(data), 1 << 15):
            self._send(2, (b"\x02" if error else b"\x01") + data[at : at + (1 << 15)])

    def end(self, code: int) -> None:
        """Say how the command ended, and hang up."""
        if code == 0:
            self._status({"metadata": {}, "status": "Success"})
            return
        message = f"command terminated with non-zero exit code: exit status {code}"
        details = {"causes": [{"reason": "ExitCode", "message": str(code)}]}
        self._status({"metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode", "details": details})

    def refuse(self, refused: Refused) -> None:
        """Say that there was no command to end, and hang up."""
        self._status({**refused.document, "details": {"causes": [{"message": str(refused)}]}})

    def _status(self, document: dict[str, Any]) -> None:
        self._send(2, b"\x03" + json.dumps(document).encode())
        self._send(8, struct.pack(">H", 1000))

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        head = struct.pack(">BB", 0x80 | opcode, size) if size < 126 else struct.pack(">BBH", 0x80 | opcode, 126, size)
        head = head if size < 1 << 16 else struct.pack(">BBQ", 0x80 | opcode, 127, size)
        self._writer.write(head + payload)
        self._writer.flush()

    def _frame(self) -> tuple[int, bytes] | None:
        head = self._reader.read(2)
        if len(head) < 2:
            return None
        opcode, size = head[0] & 0x0F, head[1] & 0x7F
        assert head[1] & 0x80, "a client masks its frames"
        if size >= 126:
            size = int.from_bytes(self._reader.read(2 if size == 126 else 8), "big")
        key, payload = self._reader.read(4), self._reader.read(size)
        if len(payload) < size:
            return None
        mask = (key * (size // 4 + 1))[:size]
        return opcode, (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def accepted(key: str) -> str:
    """Return the answer to a client's key."""
    return b64encode(sha1((key + _MAGIC).encode()).digest()).decode()
