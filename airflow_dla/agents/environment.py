"""The environment of a job: built up from an allow-list, never taken over."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Dict, Mapping

from .protocol import JobFile, JobFolder

#: What of the starter's environment a job may see.
ALLOWED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "CONDA_PREFIX",
    "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


def environment(job: JobFile, folder: JobFolder, around: Mapping[str, str], secrets: Mapping[str, str]) -> Dict[str, str]:
    """Build the work's environment: an allow-list of ours, the grant's, the agent's, the secrets.

    Parameters
    ----------
    around : mapping
        The environment to take the allowed variables from.
    """
    threads = str(job.threads)
    base = {name: value for name, value in around.items() if name in ALLOWED or name.startswith("LC_")}
    base["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)])
    return {
        **base,
        "TMPDIR": str(folder.scratch),
        "DLA_JOB_DIR": str(folder.path),
        "DLA_ATTEMPT": job.attempt,
        "PYTHONHASHSEED": str(job.seed % 2**32),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        # Threads that spin while they wait starve those of other jobs: 2 threads beside 2 busy ones took 6 times as long.
        "OMP_WAIT_POLICY": "PASSIVE",
        **job.env,
        **secrets,
        "CUDA_VISIBLE_DEVICES": ",".join(job.gpu_ids),
    }
