"""Logs of attempts by byte offset: their containers' output, or what was kept of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.listings import Summary
from airflow_dla.runtime.docker.streams import LogStream

#: Logs that one process holds open.
_STREAMS: Final = 1024
_SLICE: Final = 1 << 20


class Logs:
    """Reads logs where they are.

    Parameters
    ----------
    engine : `Engine`
    kept : callable
        Attempt → the file that has its log when its container is gone.
    """

    def __init__(self, engine: Engine, kept: Callable[[str], Path]) -> None:
        self._engine = engine
        self._kept = kept
        self._streams: dict[str, LogStream] = {}

    def read(self, attempt: str, found: Summary | None, offset: int, limit: int) -> bytes:
        """Return a piece of a log from a byte offset; nothing where there is none now."""
        # What is kept is whole; whoever remembers a container need not know that it was collected meanwhile.
        if found is None or found.state == "created" or (not found.alive and self._kept(attempt).exists()):
            return _read(self._kept(attempt), offset, limit)
        return self._stream(attempt, found).read(offset, limit, last=not found.alive)

    def whole(self, found: Summary) -> Iterator[bytes]:
        """Return the whole output of a container that has ended, in pieces."""
        stream, offset = self._engine.stream(found.id), 0
        try:
            while (data := stream.read(offset, _SLICE, last=True)) or not stream.ended:
                yield data
                offset += len(data)
        finally:
            stream.close()

    def keep(self, attempt: str, found: Summary) -> None:
        """Keep the output of a container that is about to go, where its attempt has files at all."""
        if attempt in self._streams:
            self._streams.pop(attempt).close()
        file = self._kept(attempt)
        partial = file.with_name(f".{file.name}")
        if not partial.parent.is_dir():
            return
        with partial.open("wb") as opened:
            for piece in self.whole(found):
                opened.write(piece)
        partial.replace(file)

    def _stream(self, attempt: str, found: Summary) -> LogStream:
        """Return the log that this process has open, few at a time: a follower reads on where it stood."""
        if attempt not in self._streams:
            self._streams[attempt] = self._engine.stream(found.id)
        while len(self._streams) > _STREAMS:
            self._streams.pop(next(iter(self._streams))).close()
        return self._streams[attempt]


def _read(path: Path, offset: int, limit: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), limit, offset)
    except FileNotFoundError:
        return b""
