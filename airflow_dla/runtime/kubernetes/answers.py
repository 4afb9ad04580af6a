"""What an API server's answers mean: which of them are errors of the job, and what would do."""

from __future__ import annotations

import re
from typing import Final

from airflow_dla.errors import Conflict, DlaError, InvalidSpec, LaunchRefused, NotFound, PlaceUnavailable
from airflow_dla.runtime.answers import Answer
from airflow_dla.runtime.kubernetes.kinds import Kind

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
MISSING: Final = 404
CONFLICT: Final = 409
GONE: Final = 410
INVALID: Final = 422
THROTTLED: Final = 429
_SERVER: Final = 500

#: Verbs whose refusal is one of the job that asks for something new; the others are asked of what may run already.
_MAKING: Final = ("create", "patch")
_LACKING: Final = re.compile(r'cannot (?P<verb>\w+) resource "(?P<plural>[^"]+)" in API group "(?P<group>[^"]*)"')


class Exists(Conflict):
    """Raised when an object of that name is there already."""


class Gone(Conflict):
    """Raised when the server forgot what lies between a resource version and now: list again."""


class Forbidden(PlaceUnavailable):
    """Raised when we may not look: nothing is known of what runs, and it runs on."""


def refusal(answer: Answer, *, place: str, verb: str, kind: Kind, namespace: str, name: str = "") -> DlaError:
    """Return the error that an answer which is not good means.

    Parameters
    ----------
    answer : `Answer`
    place : str
        For messages.
    verb : str
        What was asked for, as in the rules of a Role: ``create``.
    kind : `Kind`
    namespace : str
    name : str, optional
        Of the object.

    Returns
    -------
    DlaError
        `LaunchRefused` where something new was asked for and will not be had; `PlaceUnavailable` where
        the same request may be made again, also where only permissions stand in its way: what runs runs on.

    Examples
    --------
    >>> said = {"reason": "AlreadyExists", "message": 'jobs.batch "a" already exists'}
    >>> refusal(Answer(409, said), place="k", verb="create", kind=Kind("jobs", "Job", "batch"), namespace="ml")
    Exists('place k: jobs.batch "a" already exists')
    """
    message = f"place {place}: {answer.words}"
    if answer.status == CONFLICT:
        return Exists(message) if answer.reason == "AlreadyExists" else Conflict(message)
    if answer.status == GONE:
        return Gone(message)
    if answer.status in (UNAUTHORIZED, THROTTLED) or answer.status >= _SERVER:
        return PlaceUnavailable(f"{message}{_hint(answer, kind, namespace)}")
    doing = f"{verb} {kind.plural}{f' {name!r}' if name else ''} in namespace {namespace!r}"
    message = f"place {place}: cannot {doing}: {answer.words}{_hint(answer, kind, namespace)}"
    if verb in _MAKING:
        return LaunchRefused(message)
    if answer.status == MISSING:
        return NotFound(message)
    return Forbidden(message) if answer.status == FORBIDDEN else InvalidSpec(message)


def _hint(answer: Answer, kind: Kind, namespace: str) -> str:
    """Say what would do."""
    if answer.status == UNAUTHORIZED:
        return "; its credentials have expired or are not this cluster's: renew those of the place's connection"
    if answer.status == FORBIDDEN and (found := _LACKING.search(answer.words)):
        group = f" of API group {found['group']!r}" if found["group"] else ""
        where = f"Role of namespace {namespace!r}" if kind.namespaced else "ClusterRole"
        return f"; give its user the verb {found['verb']!r} on {found['plural']!r}{group} in a {where}"
    if "exceeded quota" in answer.words:
        return "; ask for less, wait until others have ended, or have the quota raised"
    if answer.status == MISSING and not answer.reason:
        return f"; the cluster serves no {kind.words} in version {kind.version!r}: is what brings it installed?"
    return ""
