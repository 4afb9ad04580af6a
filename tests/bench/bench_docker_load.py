"""What following many deferred jobs in containers costs one triggerer: CPU, memory, and whether an end is missed.

Usage: ``python tests/bench/bench_docker_load.py [JOBS] [SECONDS] [PACE]`` (200 jobs for 600 s by default, each with a line in its
log every 10 s; with the repository's root and ``tests`` on PYTHONPATH). Needs an engine (DOCKER_HOST).
"""

from __future__ import annotations

import sys
import time

from docker_images import BASE, image
from fixtures_docker import answering
from system.containers import container_airflow
from system.crowd import Crowd, cost

#: Part of a core that the triggerer may take, and MiB that it may grow by.
MOST_CPU, MOST_GROWTH = 0.20, 20.0


def main(jobs: int, seconds: float, pace: float) -> int:
    """Run that many jobs at once for so long; return 0 when the goals are met."""
    engine = answering()
    if engine is None:
        sys.exit("no Docker engine answers; name one in DOCKER_HOST")
    with container_airflow(engine, image(engine, BASE)) as airflow:
        idle = cost(airflow, 20.0)
        say(f"triggerer with nothing to do: {idle.cpu:.1%} of a core, {idle.resident[1]:.0f} MiB")
        begun = time.monotonic()
        crowd = Crowd(airflow, jobs, pace=pace)
        crowd.wait_followed(timeout=300 + 10 * jobs)
        say(f"{jobs} jobs followed after {time.monotonic() - begun:.0f} s")
        taken = cost(airflow, seconds)
        say(
            f"triggerer over {seconds:.0f} s, a line per job every {pace:g} s: {taken.cpu:.1%} of a core, "
            f"{taken.resident[0]:.0f} -> {taken.resident[1]:.0f} MiB"
        )
        late = sorted(crowd.end(over_s=jobs / 5, timeout=300 + 10 * jobs))
        say(f"every job ended well; its end was known after {late[len(late) // 2]:.1f} s (median), {late[-1]:.1f} s (longest)")
    return int(taken.cpu > MOST_CPU or taken.growth > MOST_GROWTH)


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]]
    sys.exit(main(int((given[0:1] or [200])[0]), (given[1:2] or [600.0])[0], (given[2:3] or [10.0])[0]))
