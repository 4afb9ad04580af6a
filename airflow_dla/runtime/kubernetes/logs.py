"""Logs of attempts by byte offset: their containers' output, or what was kept of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from airflow_dla.runtime.files import read_piece
from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.runtime.kubernetes.facts import MAIN, Pod
from airflow_dla.runtime.kubernetes.streams import LogStream

#: Logs that one process knows, and those of them that it follows.
_STREAMS: Final = 1024
_FOLLOWED: Final = 64
#: After so long without being read a log is forgotten, seconds: somebody else follows it, or nobody.
_LEFT_S: Final = 600.0
_SLICE: Final = 1 << 20


class Logs:
    """Reads logs where they are.

    Parameters
    ----------
    cluster : `Cluster`
    kept : callable
        Attempt → the file that has its log when its pod is gone.
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(self, cluster: Cluster, kept: Callable[[str], Path], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._kept = kept
        self._clock = clock
        self._turn = threading.Lock()
        self._streams: OrderedDict[str, LogStream] = OrderedDict()
        self._read_at: dict[str, float] = {}
        self._slots = threading.Semaphore(_FOLLOWED)

    def read(self, attempt: str, pod: Pod | None, offset: int, limit: int) -> bytes:
        """Return a piece of a log from a byte offset; nothing where there is none now."""
        # What is kept is whole; whoever remembers a pod need not know that it was collected meanwhile.
        if pod is None or pod.main.state == "waiting" or (_ended(pod) and self._kept(attempt).exists()):
            return read_piece(self._kept(attempt), offset, limit)
        stream = self._stream(attempt, pod)
        found = stream.read(offset, limit, last=_ended(pod))
        return found or (read_piece(self._kept(attempt), offset, limit) if stream.refusal else b"")

    def whole(self, attempt: str, pod: Pod | None) -> Iterator[bytes]:
        """Return the whole output of a container that has ended, in pieces; nothing where nothing is left of it."""
        if pod is None or self._kept(attempt).exists():
            yield from _pieces(self._kept(attempt))
            return
        stream, offset = LogStream(self._cluster, pod.name, MAIN), 0
        try:
            while (data := stream.read(offset, _SLICE, last=True)) or not stream.ended:
                yield data
                offset += len(data)
        finally:
            stream.close()

    def keep(self, attempt: str, pod: Pod | None) -> None:
        """Keep the output of a container that is about to go."""
        self.forget(attempt)
        file = self._kept(attempt)
        if pod is None or file.exists():
            return
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            with partial.open("wb") as opened:
                for piece in self.whole(attempt, pod):
                    opened.write(piece)
            if partial.stat().st_size:
                partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)

    def forget(self, attempt: str) -> None:
        """Let go of the connection of a log that nobody will read on."""
        with self._turn:
            stream = self._streams.pop(attempt, None)
            self._read_at.pop(attempt, None)
        if stream is not None:
            stream.close()

    def _stream(self, attempt: str, pod: Pod) -> LogStream:
        """Return the log that this process knows: a follower reads on where it stood."""
        with self._turn:
            if (stream := self._streams.get(attempt)) is None:
                stream = self._streams[attempt] = LogStream(self._cluster, pod.name, MAIN, slots=self._slots)
            self._streams.move_to_end(attempt)
            now = self._read_at[attempt] = self._clock()
            surplus = len(self._streams) - _STREAMS
            # The first are those that were read longest ago.
            oldest = enumerate(self._streams)
            left = [
                found for _, found in itertools.takewhile(lambda old: old[0] < surplus or self._read_at[old[1]] < now - _LEFT_S, oldest)
            ]
        for found in left:
            self.forget(found)
        return stream


def _ended(pod: Pod) -> bool:
    return pod.over or pod.main.ended


def _pieces(path: Path) -> Iterator[bytes]:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        while data := file.read(_SLICE):
            yield data
