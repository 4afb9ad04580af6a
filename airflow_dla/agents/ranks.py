"""The ranks of a distributed job: what each finds in its environment, and how several run in one member.

The environment is torchrun's, so that a program needs to know nothing of us. With one
rank the runner is that rank; with several it starts itself once for each, and the first
that fails takes the others along.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .protocol import JobError, JobFile, JobFolder, Lines, read_lines

#: Seconds for a rank to end after another one failed.
_PATIENCE_S = 5.0
_POLL_S = 0.05
#: Variables that say how many threads libraries take.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def variables(part: Mapping[str, Any], local_rank: int) -> Dict[str, str]:
    """Return what torchrun would tell a rank.

    Examples
    --------
    >>> told = variables({"run_id": "j.1", "node_rank": 1, "first_rank": 2, "local_world_size": 2, "world_size": 4, "port": 20001}, 1)
    >>> told["RANK"], told["LOCAL_RANK"], told["WORLD_SIZE"], told["MASTER_ADDR"]
    ('3', '1', '4', '127.0.0.1')
    """
    rank, world = int(part.get("first_rank", 0)) + local_rank, part.get("world_size", 1)
    found = {
        "RANK": rank,
        "LOCAL_RANK": local_rank,
        "ROLE_RANK": rank,
        "GROUP_RANK": part.get("node_rank", 0),
        "WORLD_SIZE": world,
        "LOCAL_WORLD_SIZE": part.get("local_world_size", 1),
        "ROLE_WORLD_SIZE": world,
        "GROUP_WORLD_SIZE": part.get("nodes", 1),
        "ROLE_NAME": "default",
        "MASTER_ADDR": part.get("address", "127.0.0.1"),
        "MASTER_PORT": part["port"],
        "TORCHELASTIC_RUN_ID": part["run_id"],
        "TORCHELASTIC_RESTART_COUNT": part.get("restarts", 0),
        "TORCHELASTIC_MAX_RESTARTS": part.get("max_restarts", 0),
        "TORCHELASTIC_USE_AGENT_STORE": False,  # rank 0 keeps the store itself: there is no agent of torchrun's
    }
    return {name: str(value) for name, value in found.items()}


def enter(job: JobFile, folder: JobFolder, local_rank: int) -> JobFolder:
    """Become a rank: set its variables; return the folder as it sees it.

    Raises
    ------
    JobError
        Of the reason ``lost``, if it is the first and the port to meet at is taken: the next
        attempt has another.
    """
    if job.part is None:
        return folder
    told = variables(job.part, local_rank)
    if told["RANK"] == "0":
        _refuse_taken(int(told["MASTER_PORT"]))
    os.environ.update(told)
    shared = {name: str(job.threads) for name in _THREADS if job.ranks > 1 and name not in job.env}
    os.environ.update(shared)
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    return JobFolder(folder.path, int(told["RANK"]))


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise JobError(f"port {port}, where the ranks are to meet, is taken: {error.strerror}", "lost") from None


def run_all(job: JobFile, folder: JobFolder, lines: Lines) -> int:
    """Run every rank of this member; return the status of the first that failed, 0 if none did.

    It is negative for a signal. What the failed rank said of itself is said once more, as the last word.
    """
    asked: List[int] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))  # the ranks have the same signal; the keeper's patience counts
    here, parent = str(Path(__file__).resolve().parent), str(os.getpid())
    children = [
        subprocess.Popen([sys.executable, here, "run", str(folder.path), parent, str(rank)])  # noqa: S603 - ourselves
        for rank in range(job.ranks)
    ]
    failed = _first_failed(children)
    if failed is None:
        return 0
    told = [line for line in read_lines(folder.lines) if line.get("kind") == "error"]
    kill_at = time.monotonic() + _PATIENCE_S
    _send(children, signal.SIGTERM)
    while any(child.poll() is None for child in children):
        if time.monotonic() > kill_at and not asked:
            _send(children, signal.SIGKILL)
        time.sleep(_POLL_S)
    local, code = failed
    rank = int((job.part or {}).get("first_rank", 0)) + local
    reason, message = "user_error", f"exited with status {code}"
    if code < 0:
        reason, message = "killed", f"was killed by {signal.Signals(-code).name}"
    elif told:  # the first that failed made the others fail
        rank, reason, message = told[0].get("rank", rank), told[0]["reason"], told[0]["message"]
    lines.say("error", reason=reason, message=f"rank {rank}: {message}")
    return code


def _first_failed(children: "List[subprocess.Popen[bytes]]") -> Optional[Tuple[int, int]]:
    """Wait until one fails, or all have ended well; return its local rank and status, of one that was killed before any other's."""
    while True:
        codes = [child.poll() for child in children]
        failed = [(rank, code) for rank, code in enumerate(codes) if code]
        if failed or None not in codes:
            return min(failed, key=lambda found: found[1] > 0) if failed else None
        time.sleep(_POLL_S)


def _send(children: "List[subprocess.Popen[bytes]]", number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


class RankLines(Lines):
    """The lines of one of several ranks: metrics, outputs and checkpoints are the first one's, errors say whose they are.

    Parameters
    ----------
    job : `JobFile`
    folder : `JobFolder`
        As the rank sees it.
    """

    def __init__(self, job: JobFile, folder: JobFolder) -> None:
        super().__init__(job.nonce, 1, folder.lines)
        self._rank = folder.rank

    def say(self, kind: str, **fields: Any) -> None:
        """Say one line, if it is this rank's to say."""
        if kind == "error":
            super().say(kind, rank=self._rank, **fields)
        elif kind == "note" or not self._rank:
            super().say(kind, **fields)
