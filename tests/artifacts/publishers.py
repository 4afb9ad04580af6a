"""Publishers to be killed, and publishers in a race; run as ``python publishers.py MODE STORE SCRATCH``.

Works in processes forked from one that has everything imported, so that a kill at a random
moment hits the publication and not Python's start.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from airflow_dla.artifacts import Store

KILLS = 20
RACERS = 3
RACES = 5


def forked(work: Callable[[], object]) -> int:
    """Run something in a process of its own; return its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def grown(folder: Path, seed: int) -> Path:
    """Write a folder of some files, different for each seed."""
    (folder / "sub").mkdir(parents=True)
    noise = random.Random(seed)
    for number in range(12):
        (folder / "sub" / f"{number}").write_bytes(noise.randbytes(100_000))
    return folder


def killed(url: str, scratch: Path) -> None:
    """Kill a publisher of checkpoints at moments spread over its whole run; say how many had ended by then."""
    begun = time.perf_counter()
    Store(url).save_checkpoint("job", grown(scratch / "first", 0))
    usual = time.perf_counter() - begun
    ended = 0
    for number in range(1, KILLS + 1):
        source = grown(scratch / str(number), number)
        child = forked(lambda source=source: Store(url).save_checkpoint("job", source))
        time.sleep(usual * 1.2 * number / KILLS)
        os.kill(child, signal.SIGKILL)
        ended += os.waitpid(child, 0)[1] == 0
    sys.stdout.write(f"{ended}\n")


def racing(url: str, scratch: Path) -> None:
    """Let several publish the same bytes at the same time; fail if one of them does."""
    for number in range(RACES):
        source = grown(scratch / str(number), number)
        children = [forked(lambda source=source: Store(url).publish(source, kind="model")) for _ in range(RACERS)]
        if any(os.waitpid(child, 0)[1] for child in children):
            sys.exit("a publisher failed")


if __name__ == "__main__":
    {"killed": killed, "racing": racing}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
