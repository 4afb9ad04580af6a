"""A pod without a cluster: its helpers are processes here, its volume a folder, its exec a pipe that a test may cut."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from airflow_dla.errors import NotFound, PlaceUnavailable
from airflow_dla.runtime.kubernetes.bundle import bundle, fetch_command, stay_command
from airflow_dla.specs import JobFile

OWNER = (os.getuid(), os.getgid())


class FakeSession:
    """A command whose pipes break after so many bytes, in either direction."""

    def __init__(self, argv: Sequence[str], stdin: Iterable[bytes], cut_after: int | None) -> None:
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._left = cut_after
        self._writer = threading.Thread(target=self._write, args=(iter(stdin),), daemon=True)
        self._writer.start()
        self.err = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._writer.join()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()

    def __iter__(self) -> Iterator[bytes]:
        assert self._process.stdout is not None
        while piece := os.read(self._process.stdout.fileno(), 1 << 16):
            self._count(len(piece))
            yield piece
        if self._left is not None and self._left < 0:
            raise PlaceUnavailable("the connection broke off")
        assert self._process.stderr is not None
        self.err = self._process.stderr.read()

    @property
    def code(self) -> int:
        """Return its exit status."""
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def _count(self, size: int) -> None:
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                self._process.kill()
                raise PlaceUnavailable("the connection broke off")

    def _write(self, pieces: Iterator[bytes]) -> None:
        """Write, and leave the other end waiting: no server tells where the input ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, PlaceUnavailable):
            for piece in pieces:
                self._count(len(piece))
                self._process.stdin.write(piece)
                self._process.stdin.flush()


class FakePod:
    """The helpers of one pod.

    Parameters
    ----------
    folder : Path
        Its volume is ``control`` in it.
    job : `JobFile`
    python : str
        That of the helpers' image.
    """

    def __init__(self, folder: Path, job: JobFile, *, python: str = sys.executable) -> None:
        self.python = python
        self.control = folder / "control"
        self.dla = self.control / "dla"
        self.control.mkdir(parents=True)
        self._boot = folder / "agents.zip"
        self._boot.write_bytes(bundle().data)
        self._job = folder / "job.json"
        self._job.write_text(json.dumps(job.to_mapping()))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        #: Bytes after which each exec to come breaks off.
        self.cuts: list[int | None] = []
        self.execs: list[tuple[str, ...]] = []
        #: Called before each exec.
        self.before_exec: Callable[[], Any] = lambda: None

    def start(self, container: str) -> None:
        """Start a helper, or start it again."""
        command = (
            fetch_command(OWNER, python=self.python, archive=str(self._boot), control=str(self.control), job=str(self._job))
            if container == "fetch"
            else stay_command(OWNER, python=self.python, control=str(self.control))
        )
        with self._log(container).open("wb") as log:  # each start of a container has a log of its own
            self._processes[container] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")

    def signal(self, container: str, number: int) -> None:
        """Send a signal to a helper, and for SIGKILL wait until it is gone."""
        self._processes[container].send_signal(number)
        if number == signal.SIGKILL:
            self._processes[container].wait()

    def ended(self, container: str) -> int | None:
        """Return a helper's exit status, None while it runs."""
        return self._processes[container].poll()

    def wait(self, container: str, timeout_s: float = 20.0) -> int:
        """Wait for a helper's exit status."""
        return self._processes[container].wait(timeout_s)

    def close(self) -> None:
        """Kill what still runs."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    # What freight needs of a cluster

    def exec(
        self, pod: str, container: str, argv: Sequence[str], stdin: Iterable[bytes] = (), *, timeout_s: float | None = None
    ) -> FakeSession:
        """Run a command here."""
        if container not in self._processes or self.ended(container) is not None:
            raise NotFound(f"container {container} not found")
        self.execs.append(tuple(argv[4:]))
        self.before_exec()
        return FakeSession([self.python, *argv[1:]], stdin, self.cuts.pop(0) if self.cuts else None)

    def log(self, pod: str, container: str, *, tail_lines: int | None = None) -> bytes:
        """Return the last lines of a helper's log."""
        path = self._log(container)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return b"".join(lines if tail_lines is None else lines[-tail_lines:])

    def _log(self, container: str) -> Path:
        return self.control.parent / f"{container}.log"
