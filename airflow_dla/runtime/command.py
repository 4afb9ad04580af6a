"""Command line and environment of what runs in a container.

The same words as on the local place (``airflow_dla.agents.command``), written again because
what is mounted into images is imported by nothing else; one test holds both together.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime.contract import Launch
from airflow_dla.specs import Grant, JobFile, UriRef

#: Where the attempt's folder and the runner are mounted.
JOB_DIR: Final = "/dla"
AGENTS_DIR: Final = "/opt/dla/agents"
#: What a job finds in its folder.
FOLDERS: Final = ("in", "out", "code", "checkpoint", "checkpoints", "tmp")
_SCRATCH: Final = f"{JOB_DIR}/tmp"  # noqa: S108 - the job's own folder

_PLACE = re.compile(r"\{(inputs|outputs)\.([A-Za-z0-9._-]+)\}|\{(checkpoint|seed|threads)\}")
#: What a command calls a Python whichever it is, and images have it by.
PYTHONS: Final = ("python3", "python")


def needs_runner(job: JobFile, secrets: Mapping[str, str]) -> bool:
    """Return whether a job needs the runner in the container: a function, ranks to start, secrets to hand over, metrics to read."""
    return job.entrypoint.function is not None or job.part is not None or bool(secrets) or bool(job.metrics)


def needs_mate(job: JobFile, mounted: Collection[str]) -> bool:
    """Whether anything is to be fetched, kept or published: a plain command may need nothing.

    Parameters
    ----------
    job : `JobFile`
    mounted : collection of str
        Inputs that the container sees straight from the store.
    """
    named = " ".join([*job.entrypoint.command, *map(str, job.args.values())])
    keeps = job.entrypoint.function is not None or "{checkpoint}" in named
    return bool(keeps or job.outputs or job.code or job.inputs.keys() - set(mounted))


def refuse_without_python(job: JobFile, image: str) -> None:
    """Refuse a function for an image that has no Python; a command's secrets are then files, its metrics read from the log.

    Raises
    ------
    LaunchRefused
    """
    if job.entrypoint.function:
        raise LaunchRefused(
            f"image {image!r} has no python3 on its PATH, which the function {job.entrypoint.function} needs; use an image with "
            "Python 3.8 or later, or a command"
        )
    if job.part is not None:
        raise LaunchRefused(f"image {image!r} has no python3 on its PATH, which distributed= needs to start ranks; use an image with one")


def threads(grant: Grant, cpus: int) -> int:
    """Return the threads that fit a grant: its CPUs, rounded up; all of the engine's host without a grant of CPUs."""
    return max(1, math.ceil(grant.amounts.get("cpu") or cpus))


def argv(job: JobFile, python: str | None, *, runner: bool, cpus: int = 1) -> tuple[str, ...]:
    """Return the command line of a container.

    Parameters
    ----------
    job : `JobFile`
    python : str or None
        The image's Python; what a command's ``python`` stands for.
    runner : bool
        Whether our runner starts the work; else the command runs by itself.
    cpus : int
        Of the engine's host, for ``{threads}`` of a job that was granted no CPUs.

    Raises
    ------
    LaunchRefused
        If a placeholder names nothing of the job; lists what it has.
    """
    if runner:
        if python is None:
            raise LaunchRefused("the runner needs a Python of the image, and it has none; use an image with Python 3.8 or later")
        return (python, AGENTS_DIR, "inside", JOB_DIR)
    places = _places(job, cpus)
    words = [_fill(word, places) for word in job.entrypoint.command]
    if python is not None and words[0] in PYTHONS:
        words[0] = python
    return (*words, *_flags(job.args, places))


def _places(job: JobFile, cpus: int) -> dict[str, str]:
    """Return what placeholders stand for: a path, or the address of what is streamed."""
    found = {
        f"inputs.{name}": ref.uri if isinstance(ref, UriRef) and ref.mode == "stream" else f"{JOB_DIR}/in/{name}"
        for name, ref in job.inputs.items()
    }
    found.update({f"outputs.{name}": f"{JOB_DIR}/out/{name}" for name in job.outputs})
    return {**found, "checkpoint": f"{JOB_DIR}/checkpoint", "seed": str(job.seed), "threads": str(threads(job.grant, cpus))}


def _flags(args: Mapping[str, Any], places: Mapping[str, str]) -> list[str]:
    """Write arguments as flags: true is a flag alone, false and None leave it out, a list repeats values after it."""
    written: list[str] = []
    for name, value in args.items():
        if value is None or value is False:
            continue
        values = [] if value is True else value if isinstance(value, (list, tuple)) else [value]
        written += [f"--{name}", *(_fill(item, places) if isinstance(item, str) else json.dumps(item) for item in values)]
    return written


def _fill(text: str, places: Mapping[str, str]) -> str:
    def place(match: re.Match[str]) -> str:
        name = match[3] or f"{match[1]}.{match[2]}"
        if name not in places:
            raise LaunchRefused(f"args: {{{name}}} names nothing of this job; it has {', '.join(f'{{{known}}}' for known in places)}")
        return places[name]

    return _PLACE.sub(place, text)


def environment(launch: Launch, image: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a container: the image's, ours, the agent's; never a secret.

    Which GPUs are seen is the engine's to say: images that ask for all of them, as those
    with CUDA do, get those granted and no others, and neither can an agent's ``env``.

    Parameters
    ----------
    launch : `Launch`
    image : mapping of str
        Variables of the image; empty where whoever starts the container adds ours to them.

    Returns
    -------
    dict
        A variable of the image that is missing here is to be removed.
    """
    job = launch.job
    found = {
        **image,
        "HOME": _SCRATCH,
        "TMPDIR": _SCRATCH,
        # Libraries ask who they run as, and a uid that the image does not know has no name.
        "USER": "dla",
        "LOGNAME": "dla",
        "DLA_JOB_DIR": JOB_DIR,
        "DLA_ATTEMPT": job.attempt,
        "DLA_IN": f"{JOB_DIR}/in",
        "DLA_OUT": f"{JOB_DIR}/out",
        "DLA_CHECKPOINT": f"{JOB_DIR}/checkpoint",
        "PYTHONHASHSEED": str(job.seed % 2**32),
        "PYTHONUNBUFFERED": "1",
        **_thread_limits(job.grant),
        **job.env,
    }
    return _with_gpus(found, job.grant)


def _thread_limits(grant: Grant) -> dict[str, str]:
    if not grant.amounts.get("cpu"):
        return {}
    fit = str(threads(grant, 1))
    # Threads that spin while they wait starve those of other jobs.
    return {"OMP_NUM_THREADS": fit, "MKL_NUM_THREADS": fit, "OPENBLAS_NUM_THREADS": fit, "OMP_WAIT_POLICY": "PASSIVE"}


def _with_gpus(found: dict[str, str], grant: Grant) -> dict[str, str]:
    """Show the GPUs granted; in the container they are numbered from 0, so CUDA needs no list of them."""
    found.pop("CUDA_VISIBLE_DEVICES", None)
    if not grant.gpu_ids:
        return {**found, "NVIDIA_VISIBLE_DEVICES": "void", "CUDA_VISIBLE_DEVICES": ""}
    shown = {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility", **found, "NVIDIA_VISIBLE_DEVICES": ",".join(grant.gpu_ids)}
    return {**shown, **_share(grant)}


def _share(grant: Grant) -> dict[str, str]:
    """Return what holds a job to its share of a GPU, where the host runs NVIDIA's MPS; elsewhere it is not held."""
    share = grant.amounts.get("gpu", 1.0)
    if share >= 1.0 or share <= 0.0:
        return {}
    held = {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(max(1, round(share * 100)))}
    if "gpu_memory" in grant.amounts:
        held["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"0={round(grant.amounts['gpu_memory'] * 1024)}M"
    return held
