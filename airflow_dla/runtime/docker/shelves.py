"""What an engine keeps by itself, without any folder of ours: volumes, by name and label, and its clock.

A volume that exists is not made again: whoever asks for it gets the one that is there, with
its first labels. So a volume that is never mounted is a mark that can be made only once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from airflow_dla.errors import PlaceUnavailable
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.listings import ATTEMPT, WORKSPACE
from airflow_dla.runtime.docker.sharing import Shared

KIND: Final = "dla.kind"
AT: Final = "dla.at"

#: Followers of one process share a look at the volumes that is no older than this, seconds.
_FRESH_S: Final = 0.15
#: An engine's clock is read again after so many seconds.
_CLOCK_S: Final = 60.0
_MISSING: Final = 404
_CONFLICT: Final = 409


@dataclass(frozen=True, slots=True)
class Kept:
    """A volume.

    Parameters
    ----------
    name : str
    labels : mapping of str
        Of whoever made it first.
    """

    name: str
    labels: Mapping[str, str]

    @property
    def attempt(self) -> str:
        """Whose it is."""
        return self.labels.get(ATTEMPT, "")

    @property
    def kind(self) -> str:
        """What it is for."""
        return self.labels.get(KIND, "")

    @property
    def at(self) -> float:
        """When it was made, by the engine's clock, seconds since the epoch."""
        return float(self.labels.get(AT, 0.0))


class Clock:
    """The time of an engine's host, asked for seldom and counted on from then.

    Parameters
    ----------
    engine : `Engine`
    monotonic : callable
        Seconds that only grow.
    """

    def __init__(self, engine: Engine, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._monotonic = monotonic
        self._ahead = Shared(self._ask, monotonic)

    def now(self) -> float:
        """Return the engine's time, seconds since the epoch; wrong by no more than a request takes."""
        return self._ahead.get(_CLOCK_S) + self._monotonic()

    def _ask(self) -> float:
        asked_at = self._monotonic()
        answer = self._engine.ask("get", "/info")
        answered_at = self._monotonic()
        try:
            told = datetime.fromisoformat(answer.document["SystemTime"]).timestamp()
        except (KeyError, TypeError, ValueError) as fault:
            raise PlaceUnavailable(f"place {self._engine.name}: the engine does not tell its time: {answer.words}") from fault
        return told - (asked_at + answered_at) / 2


class Shelves:
    """The volumes of one workspace on an engine.

    Parameters
    ----------
    engine : `Engine`
    workspace : str
    """

    def __init__(self, engine: Engine, workspace: str) -> None:
        self.clock = Clock(engine)
        self._engine = engine
        self._workspace = workspace
        self._list = Shared(self._ask, time.monotonic)

    def all(self, *, fresh: bool = False) -> Mapping[str, Kept]:
        """Return every volume of the workspace by name, as it was a moment ago, or is now."""
        return self._list.get(0.0 if fresh else _FRESH_S)

    def of(self, attempt: str, kind: str | None = None) -> tuple[Kept, ...]:
        """Return the volumes of an attempt, the oldest first."""
        found = (one for one in self.all().values() if one.attempt == attempt and kind in {None, one.kind})
        return tuple(sorted(found, key=lambda one: one.at))

    def make(self, name: str, attempt: str, kind: str, *, driver: Mapping[str, str] | None = None, **more: str) -> Kept:
        """Make a volume, or return the one of that name as it was first made.

        Parameters
        ----------
        name, attempt, kind : str
        driver : mapping of str, optional
            Options of the engine's local driver.
        **more : str
            Further labels, ``dla.`` before their names.
        """
        labels = {WORKSPACE: self._workspace, ATTEMPT: attempt, KIND: kind, AT: f"{self.clock.now():.3f}"}
        labels |= {f"dla.{key}": value for key, value in more.items()}
        body = {"Name": name, "Labels": labels, "DriverOpts": dict(driver or {})}
        answer = self._engine.ask("post", "/volumes/create", body=body, timeout_s=30.0)
        self._list.forget()
        if not answer.good:
            raise PlaceUnavailable(f"place {self._engine.name}: volume {name} cannot be made: {answer.words}")
        return _kept(answer.document)

    def remove(self, name: str) -> bool:
        """Remove a volume; return whether it is gone, which it is not while a container has it."""
        answer = self._engine.ask("delete", "/volumes/{0}", name, timeout_s=30.0)
        self._list.forget()
        if answer.good or answer.status == _MISSING:
            return True
        if answer.status != _CONFLICT:
            raise PlaceUnavailable(f"place {self._engine.name}: volume {name} cannot be removed: {answer.words}")
        return False

    def _ask(self) -> dict[str, Kept]:
        filters = json.dumps({"label": [f"{WORKSPACE}={self._workspace}"]})
        answer = self._engine.ask("get", "/volumes", params={"filters": filters})
        if not answer.good:
            raise PlaceUnavailable(f"place {self._engine.name}: its volumes cannot be listed: {answer.words}")
        return {one.name: one for one in map(_kept, (answer.document or {}).get("Volumes") or ())}


def _kept(document: Any) -> Kept:
    return Kept(str(document["Name"]), document["Labels"] or {})
