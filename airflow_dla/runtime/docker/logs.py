"""Logs of attempts by byte offset: their containers' output, or what was kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from airflow_dla.runtime.contract import LogSlice
from airflow_dla.runtime.docker import kept_logs
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.frames import Frames, error_ranges
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

    def read(self, attempt: str, found: Summary | None, offset: int, limit: int) -> LogSlice:
        """Return a piece of a log from a byte offset; nothing where there is none now."""
        # What is kept is whole; whoever remembers a container need not know that it was collected meanwhile.
        if found is None or found.state == "created" or (not found.alive and self._kept(attempt).exists()):
            return kept_logs.read(self._kept(attempt), offset, limit)
        frames = self._stream(attempt, found).read_frames(offset, limit, last=not found.alive)
        data = b"".join(piece for _, piece in frames)
        return LogSlice(data, offset + len(data), tuple(error_ranges(frames)) if data else None)

    def whole(self, found: Summary) -> Iterator[bytes]:
        """Return the whole output of a container that has ended, in pieces."""
        return (b"".join(piece for _, piece in frames) for frames in self._frames(found))

    def keep(self, attempt: str, found: Summary) -> None:
        """Keep the output of a container that is about to go, where its attempt has files at all."""
        if attempt in self._streams:
            self._streams.pop(attempt).close()
        file = self._kept(attempt)
        if file.parent.is_dir():
            kept_logs.write(file, self._frames(found))

    def _frames(self, found: Summary) -> Iterator[Frames]:
        stream, offset = self._engine.stream(found.id), 0
        try:
            while (frames := stream.read_frames(offset, _SLICE, last=True)) or not stream.ended:
                yield frames
                offset += sum(len(piece) for _, piece in frames)
        finally:
            stream.close()

    def _stream(self, attempt: str, found: Summary) -> LogStream:
        """Return the log that this process has open, few at a time: a follower reads on where it stood."""
        if attempt not in self._streams:
            self._streams[attempt] = self._engine.stream(found.id)
        while len(self._streams) > _STREAMS:
            self._streams.pop(next(iter(self._streams))).close()
        return self._streams[attempt]
