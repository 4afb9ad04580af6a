"""What is known of an attempt wherever its container runs: values to decide from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from airflow_dla.specs import ArtifactRef, ExitReason


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop that is wanted.

    Parameters
    ----------
    reason : `ExitReason`
    at : float
        When, in the seconds of whoever keeps it: a clock that nobody sets.
    why : str
        What the job did, where that is the reason.
    grace_s : float or None
        Seconds until it is killed; the job's own grace where None.
    """

    reason: ExitReason
    at: float
    why: str = ""
    grace_s: float | None = None

    @classmethod
    def from_mapping(cls, found: Mapping[str, Any]) -> Self:
        """Read ``stop.json``, whoever wrote it."""
        return cls(ExitReason(found["reason"]), float(found["at"]), found.get("why", ""), found.get("grace_s"))

    def to_mapping(self) -> dict[str, Any]:
        """Write one of ours."""
        return {"reason": self.reason.value, "at": self.at} | ({"why": self.why} if self.why else {})


@dataclass(frozen=True, slots=True)
class Staged:
    """What the helper beside a job said when it had published.

    Parameters
    ----------
    outputs : mapping of output to `ArtifactRef`
    peaks : mapping of resource to float
        Most memory held, GiB; CPU seconds used.
    error : pair of str or None
        Reason and message of what went wrong before or after the work.
    """

    outputs: Mapping[str, ArtifactRef] = field(default_factory=dict)
    peaks: Mapping[str, float] = field(default_factory=dict)
    error: tuple[str, str] | None = None

    @classmethod
    def from_mapping(cls, found: Mapping[str, Any]) -> Self:
        """Read ``published.json``, or ``fetched.json`` of what could not be fetched."""
        outputs = {name: ArtifactRef.from_mapping(ref) for name, ref in (found.get("outputs") or {}).items()}
        error = found.get("error")
        return cls(outputs, dict(found.get("peaks") or {}), None if error is None else (str(error[0]), str(error[1])))


def seconds(written: object) -> float:
    """Return a time as engines and clusters write it, in seconds since the epoch; 0 for never.

    Examples
    --------
    >>> seconds("1970-01-01T00:01:00.123456789Z"), seconds("1970-01-01T01:00:00+01:00"), seconds("0001-01-01T00:00:00Z")
    (60.123456, 0.0, 0.0)
    """
    if not isinstance(written, str) or not written or written.startswith("0001-"):
        return 0.0
    return datetime.fromisoformat(written).timestamp()
