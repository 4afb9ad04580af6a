"""The registry's and the collector's part of the `Ledger` contract, in memory."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from typing import Any

from airflow_dla.errors import Conflict, NotFound
from airflow_dla.ledger import Alias, AliasMove, ModelVersion, Roots


class MemoryLedger:
    """Model versions, aliases, pins and roots; one process, any number of threads.

    Times are counted, not measured: each operation is one second after the one before.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._clock = itertools.count(1)
        self._versions: list[ModelVersion] = []
        self._aliases: dict[tuple[str, str], Alias] = {}
        self._log: list[AliasMove] = []
        self._pins: dict[str, str] = {}

    def now(self) -> float:
        """Return the next second."""
        return float(next(self._clock))

    def register_version(
        self,
        model: str,
        *,
        digest: str,
        signature: Mapping[str, Any],
        metrics: Mapping[str, float],
        lineage: Mapping[str, Any],
        registered_by: str,
    ) -> ModelVersion:
        """Add a version, once for each attempt and digest."""
        with self._lock:
            mine = [found for found in self.model_versions(model) if (found.digest, found.registered_by) == (digest, registered_by)]
            if mine:
                return mine[0]
            number = len(self.model_versions(model)) + 1
            made = ModelVersion(model, number, digest, signature, metrics, lineage, registered_by, self.now())
            self._versions.append(made)
            return made

    def model_versions(self, model: str | None = None) -> tuple[ModelVersion, ...]:
        """Return versions, newest first."""
        return tuple(found for found in reversed(self._versions) if model in {None, found.model})

    def aliases(self, model: str | None = None) -> tuple[Alias, ...]:
        """Return aliases in order of creation."""
        return tuple(found for found in self._aliases.values() if model in {None, found.model})

    def move_alias(
        self,
        model: str,
        alias: str,
        number: int,
        *,
        expected: int | None,
        interval_end: float | None,
        by: str,
        why: str,
    ) -> Alias:
        """Move by compare-and-set, and log."""
        with self._lock:
            present = self._aliases.get((model, alias))
            if (present.number if present else None) != expected:
                raise Conflict(f"alias {alias!r} of {model!r} is {present}, expected version {expected}")
            if number not in {found.number for found in self.model_versions(model)}:
                raise NotFound(f"model {model!r} has no version {number}")
            moved = Alias(model, alias, number, interval_end, self.now())
            self._aliases[model, alias] = moved
            self._log.append(AliasMove(model, alias, expected, number, why, by, moved.moved_at))
            return moved

    def alias_log(self, model: str, alias: str | None = None) -> tuple[AliasMove, ...]:
        """Return moves, newest first."""
        return tuple(found for found in reversed(self._log) if found.model == model and alias in {None, found.alias})

    def pin(self, digest: str, name: str | None) -> None:
        """Pin or unpin a digest."""
        self._pins.pop(digest, None)
        if name is not None:
            self._pins[digest] = name

    def roots(self, *, younger_than_s: float) -> Roots:
        """Return versions and pins."""
        versions = {found.digest: f"model {found.model}@{found.number}" for found in self._versions}
        pins = {digest: f"pin {name}" for digest, name in self._pins.items()}
        return Roots({**versions, **pins}, frozenset())
