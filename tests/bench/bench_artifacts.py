"""Publishing and fetching beside ``cp -r`` and ``sha256sum``, for one large file and for many small ones.

    python tests/bench/bench_artifacts.py [FOLDER]

Both sides run in child processes on files in the page cache, one after the other; CPU time
(user and system) is compared, wall time is shown. The store also flushes to disk, which the
tools do not.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from airflow_dla.artifacts import Store

#: Name, number of files, bytes of each.
SHAPES = (("1 x 256 MiB", 1, 256 << 20), ("2,000 x 4 KiB", 2000, 4096))
ROUNDS = 3


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Return CPU and wall seconds of some work in a forked process."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit("the measured work failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - begun


def copied(source: Path, target: Path) -> None:
    """Copy and hash with the tools that every machine has."""
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    hashed(target)


def hashed(folder: Path) -> None:
    """Hash every file of a folder."""
    command = ["find", "-L", str(folder), "-type", "f", "-exec", "sha256sum", "{}", "+"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measured(name: str, source: Path, scratch: Path) -> None:
    """Print the best of some rounds of one shape."""
    rows: dict[str, list[tuple[float, float]]] = {"publish": [], "cp -r, sha256sum": [], "fetch": [], "sha256sum": []}
    for turn in range(ROUNDS):
        here = scratch / f"{name[:1]}{turn}"
        store = Store(str(here / "store"))
        rows["publish"].append(spent(lambda store=store: store.publish(source, kind="dataset")))
        digest = next(store.digests()).digest
        rows["fetch"].append(spent(lambda store=store, digest=digest, here=here: store.fetch(digest, here / "in")))
        rows["cp -r, sha256sum"].append(spent(lambda here=here: copied(source, here / "copy")))
        rows["sha256sum"].append(spent(lambda here=here: hashed(here / "copy")))
    best = {what: min(times) for what, times in rows.items()}
    for ours, theirs in (("publish", "cp -r, sha256sum"), ("fetch", "sha256sum")):
        (cpu, wall), (their_cpu, their_wall) = best[ours], best[theirs]
        sys.stdout.write(
            f"{name:14} {ours:8} {cpu:6.3f} s CPU {wall:6.3f} s wall | {theirs:17} {their_cpu:6.3f} s CPU {their_wall:6.3f} s wall"
            f" | CPU ratio {cpu / their_cpu:.2f}\n"
        )


def main() -> None:
    """Measure every shape."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        for name, count, size in SHAPES:
            source = Path(folder, f"source{count}")
            source.mkdir()
            for number in range(count):
                (source / f"{number:05d}").write_bytes(os.urandom(size))
            measured(name, source, Path(folder))


if __name__ == "__main__":
    main()
