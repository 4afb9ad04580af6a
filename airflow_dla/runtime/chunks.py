"""HTTP's framing around an answer that never ends, taken apart however the network cut it.

References
----------
RFC 9112, HTTP/1.1, section 7.1.
"""

from __future__ import annotations

from typing import Final

_LONGEST_LINE: Final = 4096


class Dechunker:
    r"""Takes HTTP's chunks apart.

    Examples
    --------
    >>> chunks = Dechunker()
    >>> chunks.feed(b"3\r\nab"), chunks.feed(b"c\r\n0\r\n\r\n"), chunks.complete
    (b'ab', b'c', True)
    """

    def __init__(self) -> None:
        self.ended = self.complete = False
        self._left = 0
        self._line = b""

    def feed(self, data: bytes) -> bytes:
        """Return what lies in the chunks of some bytes.

        Raises
        ------
        ValueError
            If these are no chunks.
        """
        out, at = bytearray(), 0
        while at < len(data) and not self.complete:
            if self._left:
                piece = data[at : at + self._left]
                out += piece
                at += len(piece)
                self._left -= len(piece)
            else:
                at = self._size_line(data, at)
        return bytes(out)

    def _size_line(self, data: bytes, at: int) -> int:
        """Read a line between two chunks, the empty one included; return where it ends."""
        end = data.find(b"\n", at)
        self._line += data[at : len(data) if end < 0 else end]
        if len(self._line) > _LONGEST_LINE:
            raise ValueError(f"a chunk's size is a short line of HTTP, got {self._line[:20]!r}...")
        if end < 0:
            return len(data)
        line, self._line = self._line.strip(), b""
        if self.ended:
            self.complete = not line
        elif line:
            self._left = int(line.split(b";", 1)[0], 16)
            self.ended = not self._left
        return end + 1
