"""Kills at many random moments of jobs in containers: duplicates, orphans, leaked grants, wrong results.

Usage: ``python tests/bench/bench_docker_kills.py [KILLS] [SEED]`` (100 by default; with the repository's root and ``tests`` on
PYTHONPATH). Needs an engine (DOCKER_HOST). A failed check ends it with what is known of the job.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter

from docker_images import BASE, image
from fixtures_docker import answering
from system.containers import STRUCK, container_airflow
from system.slaughter import Slaughter

#: Kills after which everything is checked, with other jobs for the next.
_ROUND = 20


def main(kills: int, seed: int) -> int:
    """Kill so many times, check everything; return 0."""
    engine = answering()
    if engine is None:
        sys.exit("no Docker engine answers; name one in DOCKER_HOST")
    chance, killed, begun = random.Random(seed), Counter[str](), time.monotonic()
    with container_airflow(engine, image(engine, BASE)) as airflow:
        while (left := kills - killed.total()) > 0:
            slaughter = Slaughter(airflow, jobs=6, what=STRUCK, chance=chance)
            slaughter.kill(min(_ROUND, left))
            slaughter.check()
            killed += slaughter.struck
            sys.stdout.write(f"{slaughter.summary()}; 0 duplicates, 0 orphans, 0 leaked grants, every result right\n")
            sys.stdout.flush()
    sys.stdout.write(f"seed {seed}: {killed.total()} kills ({dict(killed)}) in {time.monotonic() - begun:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int((sys.argv[1:2] or [100])[0]), int((sys.argv[2:3] or [1])[0])))
