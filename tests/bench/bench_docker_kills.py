"""Kills at many random moments of jobs in containers: duplicates, orphans, leaked grants, wrong results.

Usage: ``python tests/bench/bench_docker_kills.py [KILLS] [SEED]`` (100 by default; with the repository's root and ``tests`` on
PYTHONPATH). Needs an engine (DOCKER_HOST). A failed check ends it with what is known of the job.
"""

from __future__ import annotations

import random
import sys
import time

from docker_images import BASE, image
from fixtures_docker import answering
from system.containers import container_airflow
from system.slaughter import Slaughter


def main(kills: int, seed: int) -> int:
    """Kill so many times, check everything; return 0."""
    engine = answering()
    if engine is None:
        sys.exit("no Docker engine answers; name one in DOCKER_HOST")
    with container_airflow(engine, image(engine, BASE)) as airflow:
        begun = time.monotonic()
        slaughter = Slaughter(airflow, jobs=6, chance=random.Random(seed))
        slaughter.kill(kills)
        slaughter.check()
    sys.stdout.write(f"seed {seed}, {time.monotonic() - begun:.0f} s: {slaughter.summary()}; ")
    sys.stdout.write("0 duplicates, 0 orphans, 0 leaked grants, every result right\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int((sys.argv[1:2] or [100])[0]), int((sys.argv[2:3] or [1])[0])))
