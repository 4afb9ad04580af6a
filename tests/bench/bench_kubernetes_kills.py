"""Task processes and triggerers killed, and the API server out of reach, at random moments of jobs in pods of a whole Airflow.

Usage: ``python tests/bench/bench_kubernetes_kills.py [MOMENTS] [SEED]`` (30 by default; with the repository's root and
``tests`` on PYTHONPATH). ``DLA_TEST_KUBECONFIG``, ``DLA_TEST_IMAGE`` and ``DLA_TEST_NAMESPACE`` name a cluster, an image that its
nodes have or can fetch, and a namespace. Airflow reaches the API server past a wire of the bench's own, which is cut or falls
silent: nobody else's connections suffer. A failed check ends it with what is known of the job.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from clusters import Site, read_config
from system.pods import STRUCK, pod_airflow
from system.slaughter import Slaughter

_JOBS = 4


def main(moments: int, seed: int) -> int:
    """Strike so many times, check everything; return 0."""
    given = [os.environ.get(f"DLA_TEST_{name}", "") for name in ("KUBECONFIG", "NAMESPACE", "IMAGE")]
    if not all(given):
        sys.exit("name a cluster: DLA_TEST_KUBECONFIG, DLA_TEST_IMAGE, DLA_TEST_NAMESPACE")
    site, begun = Site(read_config(Path(given[0])), given[1], given[2], given[2]), time.monotonic()
    with pod_airflow(site) as airflow:
        slaughter = Slaughter(airflow, jobs=_JOBS, what=STRUCK, chance=random.Random(seed))
        slaughter.kill(moments)
        slaughter.check()
        sys.stdout.write(
            f"seed {seed}: {slaughter.summary()} in {time.monotonic() - begun:.0f} s; "
            "0 duplicates, 0 orphans, 0 leaked grants, every result right\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(int((sys.argv[1:2] or [30])[0]), int((sys.argv[2:3] or [1])[0])))
