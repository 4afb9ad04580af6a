"""A runtime in memory: attempts run until a test ends them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_dla.errors import DlaError
from airflow_dla.runtime import Handle, Launch, LogSlice, Status
from airflow_dla.specs import Exit, ExitReason, Grant


@dataclass(slots=True)
class FakeAttempt:
    """One attempt that was submitted."""

    launch: Launch
    log: bytes = b""
    errors: list[tuple[int, int]] = field(default_factory=list)
    exit: Exit | None = None
    lost: bool = False
    grants: list[Grant] = field(default_factory=list)

    @property
    def grant(self) -> Grant:
        """What it may use now."""
        return self.grants[-1] if self.grants else self.launch.job.grant


class FakeRuntime:
    """Keeps attempts in memory; `end`, `lose`, `write` and `break_down` are the test's hands.

    Parameters
    ----------
    obedient : bool
        Whether `cancel` ends an attempt at once; else the test ends it.
    resizable : bool
        What `resize` answers.

    Attributes
    ----------
    first_words : bytes
        What every new attempt has in its log.
    obstacles : list of DlaError
        What the next submits raise, one each.
    address : str
        Where other members reach an attempt; empty where nobody can.
    on_resize : callable
        Called in the middle of each `resize` with the attempt and the grant.
    """

    def __init__(self, *, node: str = "fake", obedient: bool = True, resizable: bool = True) -> None:
        self.node = node
        self.obedient = obedient
        self.resizable = resizable
        self.attempts: dict[str, FakeAttempt] = {}
        self.stops: dict[str, ExitReason] = {}
        self.submits: list[str] = []
        self.looks: Counter[str] = Counter()
        self.cancels: list[tuple[str, ExitReason]] = []
        self.first_words = b""
        self.address = "10.0.0.1"
        self.obstacles: list[DlaError] = []
        self.on_resize: Callable[[str, Grant], None] = lambda _attempt, _grant: None
        self._broken: DlaError | None = None

    # --- the contract ---

    def plan(self, launch: Launch) -> Mapping[str, Any]:
        """Return the label and the limits."""
        return {"attempt": launch.job.attempt, "limits": dict(launch.job.grant.amounts)}

    def submit(self, launch: Launch) -> Handle:
        """Start an attempt that runs until it is ended; every call is counted in `submits`."""
        self._answer()
        if self.obstacles:
            raise self.obstacles.pop(0)
        label = launch.job.attempt
        self.submits.append(label)
        if label not in self.stops:
            self.attempts.setdefault(label, FakeAttempt(launch, log=self.first_words))
        return {"node": self.node, "attempt": label, **({"address": self.address} if self.address else {})}

    def status(self, attempt: str) -> Status:
        """Return whether it runs, and its exit; every call is counted in `looks`."""
        self._answer()
        self.looks[attempt] += 1
        found = self.attempts.get(attempt)
        if found is None:
            stop = self.stops.get(attempt)
            return Status(alive=False, exit=Exit(reason=stop, message="stopped before it started") if stop else None)
        return Status(alive=found.exit is None and not found.lost, exit=found.exit, note="fake limits")

    def logs(self, attempt: str, offset: int, *, limit: int = 1 << 20) -> LogSlice:
        """Return a piece of what was written."""
        self._answer()
        found = self.attempts.get(attempt)
        data = b"" if found is None else found.log[offset : offset + limit]
        ranges = [] if found is None else found.errors
        end = offset + len(data)
        errors = tuple((max(one, offset) - offset, min(other, end) - offset) for one, other in ranges if one < end and other > offset)
        return LogSlice(data, end, errors if data else None)

    def cancel(self, attempt: str, reason: ExitReason) -> None:
        """Stop an attempt, or leave a mark that it never starts."""
        self._answer()
        self.cancels.append((attempt, reason))
        self.stops.setdefault(attempt, reason)
        found = self.attempts.get(attempt)
        if self.obedient and found is not None and found.exit is None and not found.lost:
            found.exit = Exit(reason=self.stops[attempt], message="asked to stop")

    def resize(self, attempt: str, grant: Grant) -> bool:
        """Remember the new grant after all those before it."""
        self._answer()
        self.on_resize(attempt, grant)
        found = self.attempts.get(attempt)
        if found is None or found.exit is not None or found.lost or not self.resizable:
            return False
        found.grants.append(grant)
        return True

    def jobs(self) -> dict[str, bool]:
        """Return every attempt and whether it runs."""
        self._answer()
        return {label: found.exit is None and not found.lost for label, found in self.attempts.items()}

    # --- the test's hands ---

    def end(self, attempt: str, reason: ExitReason = ExitReason.SUCCEEDED, **fields: Any) -> None:
        """End an attempt; `fields` are those of `Exit`."""
        self.attempts[attempt].exit = Exit(reason=reason, **fields)

    def lose(self, attempt: str) -> None:
        """Let an attempt disappear without a trace."""
        self.attempts[attempt].lost = True

    def write(self, attempt: str, data: bytes, *, error: bool = False) -> None:
        """Write to an attempt's log."""
        found = self.attempts[attempt]
        begin = len(found.log)
        found.log += data
        found.errors += [(begin, len(found.log))] if error else []

    def break_down(self, error: DlaError | None) -> None:
        """Make every call raise an error from now on; None repairs."""
        self._broken = error

    def _answer(self) -> None:
        if self._broken is not None:
            raise self._broken
