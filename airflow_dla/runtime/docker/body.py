"""The request that makes a container, and the one that changes it while it runs.

Names are those of the Engine API 1.41 (``POST /containers/create``, ``POST /containers/ID/update``).
What is not said here is the engine's default: its seccomp profile, masked paths, private
namespaces for processes and devices.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime.command import AGENTS_DIR, JOB_DIR, environment
from airflow_dla.runtime.contract import Launch
from airflow_dla.runtime.docker.facts import EngineFacts, Image
from airflow_dla.runtime.docker.listings import ATTEMPT, WORKSPACE
from airflow_dla.runtime.docker.overrides import TOP, asked
from airflow_dla.runtime.docker.volumes import mount, volumes
from airflow_dla.runtime.limits import compute, devices, differ_in_compute, in_bytes, tmp
from airflow_dla.runtime.policy import image_of, kept_capabilities
from airflow_dla.specs import Grant, PlaceSpec
from airflow_dla.specs.grants import describe_amounts

#: Label that names the image as the job does; a container has it by its id.
IMAGE: Final = "dla.image"

#: An engine's own default.
_SHM: Final = 64 * 2**20
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]")

#: A core file of a training fills a disk. No limit is raised: an engine without all of root's rights
#: starts nothing that asks for more than it has itself; jobs that must can ask for ``ulimits``.
_ULIMITS: Final[Mapping[str, int]] = {"core": 0}

#: An offset into a log must mean the same for ever: nothing is rotated away or dropped. All is said,
#: since an engine fills in from its own defaults what is not; it knows no word for "no limit".
_WHOLE_LOG: Final[Mapping[str, str]] = {"max-file": "1", "max-size": "1p", "compress": "false", "mode": "blocking"}
#: The first keeps every byte and reads long lines twenty times as fast; the second makes text of all, and every engine has it.
_LOG_DRIVERS: Final = ("local", "json-file")


def name(workspace: str, attempt: str) -> str:
    """Return the name of an attempt's container: a second one with it cannot be made.

    Examples
    --------
    >>> name("0f3a9c21-77aa-4c1e", "0d9f.2")
    'dla-0f3a9c21-0d9f.2'
    """
    return f"dla-{_NOT_IN_A_NAME.sub('-', workspace)[:8]}-{attempt}"


def labels(launch: Launch, workspace: str) -> dict[str, str]:
    """Return the labels that an attempt's container is found by, and those for people."""
    attempt = launch.job.attempt
    people = {f"dla.{key}": value for key, value in launch.labels.items()}
    return {**people, WORKSPACE: workspace, ATTEMPT: attempt, "dla.job": attempt.rpartition(".")[0]}


def body(
    launch: Launch,
    place: PlaceSpec,
    *,
    workspace: str,
    image: Image,
    facts: EngineFacts,
    argv: Sequence[str],
    mounts: Sequence[Mapping[str, Any]],
    user: str,
    stdin: bool,
) -> dict[str, Any]:
    """Return the body of ``POST /containers/create``.

    Parameters
    ----------
    launch : `Launch`
        As `policy.refuse` let it through.
    place : `PlaceSpec`
    workspace : str
        The ledger's identity.
    image : `Image`
        What is run, by its id: what was looked into is what runs, whatever a pull does meanwhile.
    facts : `EngineFacts`
    argv : sequence of str
        The whole command line; the image's own entrypoint and command are not used.
    mounts : sequence of mapping
        The attempt's own, as the engine's ``Mount``.
    user : str
        ``uid:gid``, unless the job may and does ask for another.
    stdin : bool
        Whether secrets are handed over by standard input, which ends with the first who attached.

    Raises
    ------
    LaunchRefused
        If the engine lacks the runtime, or GPUs were granted without ids.
    """
    settings = asked(launch.overrides)
    top = {key: value for key, value in settings.items() if key in TOP}
    # As the first process a program gets no signal that it has no handler for; our runner has.
    init = {"Init": facts.has_init and AGENTS_DIR not in argv[:2]}
    host = init | {key: value for key, value in settings.items() if key not in TOP}
    all_mounts = [dict(own) for own in mounts] + [mount(volume) for volume in volumes(launch.volumes)]
    made = environment(launch, image.env)
    if stdin and launch.secrets:
        made["DLA_SECRETS"] = ",".join(sorted(launch.secrets))  # the names of those that must come: a broken connection looks like none
    return {
        "Image": image.id,
        "Entrypoint": list(argv[:1]),
        "Cmd": list(argv[1:]),
        # A name alone removes what the image sets.
        "Env": [f"{key}={value}" for key, value in made.items()] + [key for key in image.env if key not in made],
        "User": user,
        "WorkingDir": f"{JOB_DIR}/code",
        "Labels": {**labels(launch, workspace), IMAGE: image_of(launch, place)},
        "AttachStdin": stdin,
        "OpenStdin": stdin,
        "StdinOnce": stdin,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        # Both may be the image's: a stop that we do not mean, a program that takes CPU beside the job.
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "StopTimeout": math.ceil(launch.job.grace_s),
        **top,
        "HostConfig": _host_config(launch.job.grant, place, facts, host, all_mounts),
    }


def _host_config(
    grant: Grant, place: PlaceSpec, facts: EngineFacts, settings: Mapping[str, Any], mounts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "NetworkMode": place.policy.networks[0],
        "IpcMode": "private",
        "PidsLimit": place.policy.pids,
        **settings,
        **resources(grant, facts),
        **_files(place, facts, grant, settings, mounts),
        **_rights(place, settings),
        **_devices(place, facts, grant, settings),
        "Ulimits": _ulimits(settings.get("Ulimits", ())),
        "LogConfig": _log(facts),
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no"},
    }


# --- limits --------------------------------------------------------------------------


def resources(grant: Grant, facts: EngineFacts) -> dict[str, Any]:
    """Return the limits on CPU and memory of a grant; what was not granted is not limited.

    Memory has no swap beside it. What lies in ``/tmp`` and ``/dev/shm`` counts to it.

    Examples
    --------
    >>> facts = EngineFacts(name="gpu1", api_version="1.41", cpus=2, memory_bytes=2**34)
    >>> resources(Grant(id="a.1", node="gpu1", amounts={"cpu": 1.5, "memory": 0.5}, cpu_ids=(0, 1)), facts)
    {'NanoCpus': 1500000000, 'CpusetCpus': '0,1', 'Memory': 536870912, 'MemorySwap': 536870912}
    """
    swappiness = {"MemorySwappiness": 0} if "memory" in grant.amounts and facts.cgroup_version == 1 else {}
    return {**update(grant, facts), **swappiness}


def update(grant: Grant, facts: EngineFacts) -> dict[str, Any]:
    """Return the body of ``POST /containers/ID/update`` that puts a grant in force.

    Memory and swap go together, whichever way they change: an engine refuses one that is
    above or below the other's old value. Below what is in use version 1 of control groups
    refuses too, but version 2 takes pages away and kills if it must: look first.
    """
    found, limits = dict[str, Any](), compute(grant)
    if "cpu" in limits:
        found["NanoCpus"] = min(round(limits["cpu"] * 1e9), facts.cpus * 10**9)
    if grant.cpu_ids:
        found["CpusetCpus"] = ",".join(map(str, grant.cpu_ids))
    if "memory" in limits:
        found["Memory"] = limits["memory"]
        found |= {"MemorySwap": found["Memory"]} if facts.swap_limit else {}
    return found


def can_resize(old: Grant, new: Grant) -> bool:
    """Return whether a running container can be changed from one grant to another: only CPUs and memory can.

    A limit that is there can be changed and one can be added, but none can be taken away.

    Examples
    --------
    >>> old = Grant(id="a.1", node="n", amounts={"cpu": 1.0, "memory": 1.0, "shm": 1.0})
    >>> can_resize(old, Grant(id="a.1", node="n", amounts={"cpu": 2.0, "memory": 4.0, "shm": 1.0}))
    True
    >>> can_resize(old, Grant(id="a.1", node="n", amounts={"cpu": 2.0, "memory": 4.0, "shm": 2.0}))
    False
    """
    kept = old.amounts.keys() <= new.amounts.keys() and (bool(new.cpu_ids) or not old.cpu_ids)
    return kept and differ_in_compute(old, new)


def limits_text(grant: Grant) -> str:
    """Return what is in force, for the task log.

    Examples
    --------
    >>> limits_text(Grant(id="a.1", node="gpu1", amounts={"cpu": 2.0, "memory": 8.0, "gpu": 1.0}, cpu_ids=(0, 1), gpu_ids=("GPU-7",)))
    'docker: 2 cpu, 8 GiB memory, 1 gpu, CPUs 0,1, GPUs GPU-7'
    """
    parts = [describe_amounts(grant.amounts)] if grant.amounts else []
    parts += [f"CPUs {','.join(map(str, grant.cpu_ids))}"] if grant.cpu_ids else []
    parts += [f"GPUs {','.join(grant.gpu_ids)}"] if grant.gpu_ids else []
    return f"docker: {', '.join(parts) or 'no limit asked for'}"


def _log(facts: EngineFacts) -> dict[str, Any]:
    driver = next((found for found in _LOG_DRIVERS if found in facts.log_drivers), _LOG_DRIVERS[-1])
    return {"Type": driver, "Config": dict(_WHOLE_LOG)}


def _ulimits(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    ours = {limit: {"Name": limit, "Soft": most, "Hard": most} for limit, most in _ULIMITS.items()}
    return list({**ours, **{found["Name"]: dict(found) for found in settings}}.values())


# --- files ---------------------------------------------------------------------------


def _files(
    place: PlaceSpec, facts: EngineFacts, grant: Grant, settings: Mapping[str, Any], mounts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what may be written where.

    A read-only root has nothing to limit; else the grant's ``disk`` limits it where the
    storage driver can. The attempt's folder is one of a host, which has no such limit: there
    its mate looks how much is taken.
    """
    read_only = place.policy.read_only
    disk = {"StorageOpt": {"size": str(in_bytes(grant.amounts["disk"]))}} if "disk" in grant.amounts else {}
    return {
        "Mounts": list(mounts),
        "ReadonlyRootfs": read_only,
        "Tmpfs": {**(_tmp(grant, mounts) if read_only else {}), **settings.get("Tmpfs", {})},
        "ShmSize": in_bytes(grant.amounts["shm"]) if grant.amounts.get("shm") else _SHM,
        **(disk if facts.limits_disk and not read_only else {}),
    }


def _tmp(grant: Grant, mounts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return a ``/tmp`` in memory: compilers run what they write there."""
    if any(mount["Target"] == "/tmp" for mount in mounts):  # noqa: S108 - in the container, which is private
        return {}
    return {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={in_bytes(tmp(grant))}"}  # noqa: S108 - as above


def without_disk_limit(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body without its limit on disk, for an engine that refused it: its file system has no quotas."""
    return {**made, "HostConfig": {key: value for key, value in made["HostConfig"].items() if key != "StorageOpt"}}


# --- rights and devices --------------------------------------------------------------


def _rights(place: PlaceSpec, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Privileged": bool(settings.get("Privileged", False)),
        "CapDrop": ["ALL"],
        "CapAdd": list(dict.fromkeys([*kept_capabilities(place), *settings.get("CapAdd", ())])),
        "SecurityOpt": ["no-new-privileges", *settings.get("SecurityOpt", ())],
    }


def _devices(place: PlaceSpec, facts: EngineFacts, grant: Grant, settings: Mapping[str, Any]) -> dict[str, Any]:
    runtime = settings.get("Runtime", place.runtime)
    if runtime is not None and runtime not in facts.runtimes:
        raise LaunchRefused(
            f"place {place.name!r}: its engine has no runtime {runtime!r}, it has {', '.join(facts.runtimes) or 'none'}; "
            f"install it on {facts.name}, or leave the runtime out"
        )
    found = {"Runtime": runtime} if runtime is not None else {}
    if devices(grant) and not grant.gpu_ids:
        raise LaunchRefused(
            f"node {grant.node!r} granted {' and '.join(devices(grant))} without saying which, so nothing keeps jobs apart there; "
            f"give the node the ids that nvidia-smi -L shows, as gpu_ids or mig_ids of its capacity"
        )
    if grant.gpu_ids:
        found["DeviceRequests"] = [{"Driver": "nvidia", "DeviceIDs": list(grant.gpu_ids), "Capabilities": [["gpu"]]}]
    return found
