"""What the runner and the keeper read and write: the words of ``airflow_dla.specs.protocol``.

They are written again here because this package imports nothing of the other; one test
holds both together. A line on stdout is ``::dla:NONCE::{json}``:

============== =======================================================
``metric``     ``{"values": {name: number}, "step": n}``; not-finite numbers as text
``checkpoint`` ``{"version": n, "path": …}``
``output``     ``{"name": …, "path": …}``
``error``      ``{"reason": "user_error" | "out_of_memory", "message": …}``
``note``       ``{"text": …}``
``heartbeat``  nothing more
============== =======================================================

Each has ``kind`` and ``at``, seconds since the epoch.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

PROTOCOL = 1
MAX_LINE = 65_536
LINE_KINDS = ("metric", "heartbeat", "checkpoint", "output", "error", "note", "peaks")
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class JobError(Exception):
    """A mistake in how a job was asked for or in what it did, told to its author.

    Parameters
    ----------
    reason : {"user_error", "out_of_memory", "lost"}
    """

    def __init__(self, message: str, reason: str = "user_error") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class JobFile:
    """What the runner needs of ``job.json``; the meaning of each is in ``specs.protocol.JobFile``."""

    attempt: str
    nonce: str
    entrypoint: Any
    grant: dict[str, Any]
    store: str
    checkpoint: str
    args: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    metrics: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    code: dict[str, Any] | None = None
    seed: int = 0
    grace_s: float = 30.0
    run_timeout_s: float | None = None
    part: dict[str, Any] | None = None
    protocol: int = PROTOCOL

    @classmethod
    def read(cls, path: Path) -> JobFile:
        """Read ``job.json``; keys of a newer version are passed over.

        Raises
        ------
        JobError
            If it was written for a version that this one does not read.
        """
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw.get("protocol", PROTOCOL)
        if version not in (PROTOCOL - 1, PROTOCOL):
            raise JobError(f"{path} speaks protocol {version}, this runner {PROTOCOL} and the one before; run one version everywhere")
        known = {name: value for name, value in raw.items() if name in cls.__dataclass_fields__}
        known["outputs"] = tuple(known.get("outputs", ()))
        return cls(**known)

    def resized(self, folder: JobFolder) -> JobFile:
        """Return the job with the grant that holds now: a resize leaves it in ``grant.json``."""
        found = read_json(folder.grant)
        return self if found is None else replace(self, grant=found)

    @property
    def amounts(self) -> dict[str, float]:
        """What was granted, by resource."""
        return dict(self.grant.get("amounts", {}))

    @property
    def cpu_ids(self) -> tuple[int, ...]:
        """CPUs that were granted by number."""
        return tuple(self.grant.get("cpu_ids", ()))

    @property
    def gpu_ids(self) -> tuple[str, ...]:
        """GPUs that were granted."""
        return tuple(self.grant.get("gpu_ids", ()))

    @property
    def ranks(self) -> int:
        """Processes that the work is spread over here."""
        return int((self.part or {}).get("local_world_size", 1))

    @property
    def leads(self) -> bool:
        """Whether its outputs and checkpoints are the job's: those of the first member of a distributed one."""
        return not (self.part or {}).get("node_rank", 0)

    @property
    def published(self) -> tuple[str, ...]:
        """Names of the outputs that are published."""
        return self.outputs if self.leads else ()

    @property
    def restores(self) -> bool:
        """Whether there may be a checkpoint: the first attempt of a job has none, one of another member may be told of a later start."""
        return not self.leads or self.attempt.rpartition(".")[2] != "1"

    @property
    def threads(self) -> int:
        """Threads that fit the grant: its CPUs, rounded up; all of this process without a grant of CPUs; its ranks share them."""
        cpus = self.amounts.get("cpu") or len(os.sched_getaffinity(0))
        return max(1, math.ceil(cpus) // self.ranks)


@dataclass(frozen=True)
class JobFolder:
    """Where everything of an attempt lies.

    Parameters
    ----------
    path : path
    rank : int
        Of a distributed job: what any but the first writes as outputs goes with the scratch folder.
    """

    path: Path
    rank: int = 0

    @property
    def job(self) -> Path:
        """``job.json``."""
        return self.path / "job.json"

    @property
    def keeper(self) -> Path:
        """``keeper.json``."""
        return self.path / "keeper.json"

    @property
    def cgroups(self) -> Path:
        """``cgroups.json``: the control groups made for the attempt, and the files that set their limits."""
        return self.path / "cgroups.json"

    @property
    def grant(self) -> Path:
        """``grant.json``: what the attempt may use since it was resized."""
        return self.path / "grant.json"

    @property
    def stop(self) -> Path:
        """``stop.json``."""
        return self.path / "stop.json"

    @property
    def exit(self) -> Path:
        """``exit.json``."""
        return self.path / "exit.json"

    @property
    def log(self) -> Path:
        """Standard output and error of the work."""
        return self.path / "log"

    @property
    def lines(self) -> Path:
        """``metrics.jsonl``."""
        return self.path / "metrics.jsonl"

    @property
    def code(self) -> Path:
        """A writable copy of the shipped code, the work's current folder."""
        return self.path / "code"

    @property
    def scratch(self) -> Path:
        """TMPDIR of the work, removed with it."""
        return self.path / "tmp"

    @property
    def checkpoint(self) -> Path:
        """A plain folder, restored before the start and saved after."""
        return self.path / "checkpoint"

    @property
    def versions(self) -> Path:
        """Complete checkpoints by number."""
        return self.path / "checkpoints"

    def input(self, name: str) -> Path:
        """Folder of an input's files."""
        return self.path / "in" / name

    def output(self, name: str) -> Path:
        """Folder of an output's files."""
        return (self.scratch / f"rank-{self.rank}" if self.rank else self.path) / "out" / name


@dataclass(frozen=True)
class ControlFolder:
    """What is said about an attempt in a container, out of its reach; ``dla/`` in it is all that the container sees."""

    path: Path

    @property
    def inside(self) -> JobFolder:
        """The folder that is mounted into the container."""
        return JobFolder(self.path / "dla")

    @property
    def job(self) -> Path:
        """``job.json``."""
        return self.path / "job.json"

    @property
    def stop(self) -> Path:
        """``stop.json``."""
        return self.path / "stop.json"

    @property
    def mate(self) -> Path:
        """``mate.json``: who stages, in the form of ``keeper.json``."""
        return self.path / "mate.json"

    @property
    def container(self) -> Path:
        """``container.json``: ``{"id": …}``, once there is one."""
        return self.path / "container.json"

    @property
    def fetched(self) -> Path:
        """``fetched.json``: all is in place, or ``{"error": [reason, message]}``."""
        return self.path / "fetched.json"

    @property
    def ended(self) -> Path:
        """``ended.json``: ``{"succeeded": …, "hard": …}``, when the container has ended or never will start."""
        return self.path / "ended.json"

    @property
    def published(self) -> Path:
        """``published.json``: ``{"outputs": …, "peaks": …, "error": [reason, message] | null}``, the mate's last word."""
        return self.path / "published.json"

    @property
    def taken(self) -> Path:
        """A checkpoint on its way to the store."""
        return self.path / ".checkpoint"


class Lines:
    """Says lines on a stream and once more into ``metrics.jsonl``.

    Parameters
    ----------
    nonce : str
    stream : int
        File descriptor of standard output.
    copy : path
    """

    def __init__(self, nonce: str, stream: int, copy: Path) -> None:
        self._mark = f"::dla:{nonce}::".encode()
        self._stream = stream
        self._copy = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def say(self, kind: str, **fields: Any) -> None:
        """Say one line; it is written whole or not at all.

        Raises
        ------
        JobError
            If it is longer than `MAX_LINE`.
        """
        text = json.dumps({"kind": kind, "at": round(time.time(), 3), **fields}, default=str, separators=(",", ":"))
        line = self._mark + text.encode() + b"\n"
        if len(line) > MAX_LINE:
            raise JobError(f"a line of kind {kind!r} may have {MAX_LINE} bytes, got {len(line)}; write large values into an output")
        os.write(self._copy, text.encode() + b"\n")
        os.write(self._stream, (b"\n" if self._inside_line() else b"") + line)

    def _inside_line(self) -> bool:
        """Whether the program left its last line open; known where the stream is a readable file."""
        try:
            size = os.fstat(self._stream).st_size
            return size > 0 and os.pread(self._stream, 1, size - 1) != b"\n"
        except OSError:
            return False


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; what was cut off by a kill is passed over."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    return [found for found in map(_parsed, raw.splitlines()) if found is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def write_json(path: Path, value: Any, *, durable: bool = False, once: bool = False) -> None:
    """Write a file that is there whole or not at all; `durable` also after a power cut; `once` unless it is there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    if once:
        with contextlib.suppress(FileExistsError):
            os.link(str(partial), str(path))
        partial.unlink()
    else:
        partial.replace(path)
    if durable:
        _flush(path.parent)


def _flush(folder: Path) -> None:
    """Make durable which names a folder holds."""
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON file; None when there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return dict(found)
