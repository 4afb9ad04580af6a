"""The word of the doctor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from airflow_dla.errors import DlaError

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, and what was found.

    Parameters
    ----------
    name : str
    state : {"ok", "warn", "fail"}
        ``fail``: jobs will not run, or wrongly; ``warn``: they will, but look at it.
    message : str
        What was found.
    fix : str
        What to do about it.
    """

    name: str
    state: State
    message: str
    fix: str = ""


def guarded(name: str, look: Callable[[], Check], fix: str = "") -> Check:
    """Look, and turn an error into a check that failed."""
    try:
        return look()
    except (DlaError, OSError) as error:
        return Check(name, "fail", str(error), fix)
