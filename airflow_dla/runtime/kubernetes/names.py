"""What objects of ours are called in a cluster, and the labels and annotations they are found by."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from airflow_dla.runtime.contract import Launch
from airflow_dla.specs import JobFile

PREFIX: Final = "airflow-dla/"
#: Labels: what attempts are found by.
WORKSPACE: Final = f"{PREFIX}workspace"
ATTEMPT: Final = f"{PREFIX}attempt"
#: Label of pods alone: the members of a distributed job, which have one value, may speak to each other.
MEMBERS: Final = f"{PREFIX}members"
#: Annotations of a Job: what was launched, what holds since a resize, the stop that is wanted, how it ended, its image.
JOB: Final = f"{PREFIX}job"
GRANT: Final = f"{PREFIX}grant"
STOP: Final = f"{PREFIX}stop"
EXIT: Final = f"{PREFIX}exit"
IMAGE: Final = f"{PREFIX}image"
#: Annotation of a Job that Kueue may start again: the one pod of all it makes that runs.
POD: Final = f"{PREFIX}pod"
#: Gate of the pods of such a Job: none is placed before it is taken off.
GATE: Final = f"{PREFIX}once"

#: What Jobs that Kueue admits are found by.
QUEUE: Final = "kueue.x-k8s.io/queue-name"

_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PLAIN: Final = re.compile(r"([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)\.([0-9]+)")
_NOT_IN_A_NAME: Final = re.compile(r"[^a-z0-9-]")
#: A pod is called like its Job and six characters more, and must be a host's name.
_LONGEST: Final = 52
_HASHED: Final = 32


def name(workspace: str, attempt: str) -> str:
    """Return the name of an attempt's Job: a second one with it cannot be made.

    Parameters
    ----------
    workspace : str
        The ledger's identity.
    attempt : str

    Returns
    -------
    str
        A DNS label of at most 52 characters; another one for every attempt.

    Examples
    --------
    >>> name("0f3a9c21-77aa-4c1e", "0d9f.2")
    'dla-0f3a9c21-0d9f-2'
    >>> name("0f3a9c21-77aa-4c1e", "Digits.2")
    'dla-0f3a9c21-1889f1e388e0dff863d3b2b2d82db488'
    """
    head = f"dla-{_NOT_IN_A_NAME.sub('-', workspace.lower())[:8].strip('-') or 'w'}-"
    match = _PLAIN.fullmatch(attempt)
    plain = f"{head}{match[1]}-{match[2]}" if match else ""
    return plain if plain and len(plain) <= _LONGEST else head + _digest(attempt)


def label(value: str) -> str:
    """Return a value as a label can have it: itself, or a digest of it.

    Examples
    --------
    >>> label("0d9f.2"), label("a b")
    ('0d9f.2', 'c8687a08aa5d6ed2044328fa6a697ab8')
    """
    return value if _LABEL.fullmatch(value) else _digest(value)


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:_HASHED]


def labels(workspace: str, attempt: str) -> dict[str, str]:
    """Return the labels of everything that belongs to an attempt."""
    return {WORKSPACE: label(workspace), ATTEMPT: label(attempt)}


def selector(workspace: str) -> str:
    """Return what selects the objects of a workspace.

    Examples
    --------
    >>> selector("0f3a9c21")
    'airflow-dla/workspace=0f3a9c21'
    """
    return f"{WORKSPACE}={label(workspace)}"


def notes(launch: Launch, image: str) -> dict[str, str]:
    """Return the annotations of an attempt's Job: what was launched, and for people what it is for; never a secret."""
    people = {PREFIX + _key(key): value for key, value in launch.labels.items()}
    return {**people, IMAGE: image, ATTEMPT: launch.job.attempt, JOB: written(launch.job)}


def written(job: JobFile) -> str:
    """Return a job as the annotation `JOB` has it, and as the pod reads it."""
    return json.dumps(job.to_mapping(), sort_keys=True, separators=(",", ":"))


def _key(name: str) -> str:
    """Return a name as the second half of an annotation's key can have it."""
    found = re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:63].strip("-_.")
    return found or _digest(name)


def attempt_of(document: Mapping[str, Any]) -> str | None:
    """Return the attempt that an object of ours belongs to; None for others'."""
    metadata = document.get("metadata") or {}
    found = (metadata.get("annotations") or {}).get(ATTEMPT) or (metadata.get("labels") or {}).get(ATTEMPT)
    return None if found is None else str(found)
