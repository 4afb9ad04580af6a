"""The contract of a registry of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from airflow_dla.ledger import Alias, AliasMove, ModelVersion
from airflow_dla.specs import ModelRef

#: What a run whose data is older than the alias's may do.
OnBackfill = Literal["register-only", "promote"]


@dataclass(frozen=True, slots=True)
class Promotion:
    """What became of an alias.

    Parameters
    ----------
    moved : bool
    alias : str
    number : int
        The version it points at now.
    previous : int or None
        The version it pointed at before; None when it is new.
    reason : str
        For a person: what was done, or why nothing was.
    """

    moved: bool
    alias: str
    number: int
    previous: int | None
    reason: str


class Registry(Protocol):
    """What every registry can do. ``tests/contracts/registry.py`` runs on each."""

    def register(
        self,
        model: str,
        *,
        digest: str,
        signature: Mapping[str, Any],
        metrics: Mapping[str, float],
        lineage: Mapping[str, Any],
        registered_by: str,
    ) -> ModelVersion:
        """Register a version under the next number; the same attempt and digest get the number they have.

        Parameters
        ----------
        model : str
        digest : str
            Of the model's artifact.
        signature : mapping
            A `Signature`, plainly.
        metrics : mapping of metric to float
        lineage : mapping
            Code, image, inputs, args, seed, dag, run, task, attempt: plain JSON.
        registered_by : str
            Id of the attempt, or who did it.

        Raises
        ------
        InvalidSpec
            If any of that breaks its rule.
        """

    def resolve(self, reference: ModelRef) -> ModelVersion | None:
        """Return the version a reference means; None when there is none and it says ``missing="skip"``.

        A reference that carries a digest means the version of that digest, also when the
        alias has moved since.

        Raises
        ------
        NotFound
            If there is none; lists the versions and aliases there are.
        """

    def promote(
        self,
        model: str,
        number: int,
        alias: str,
        *,
        interval_end: float | None,
        by: str,
        why: str,
        on_backfill: OnBackfill = "register-only",
        force: bool = False,
    ) -> Promotion:
        """Point an alias at a version, if its data is not older than the present holder's.

        Parameters
        ----------
        interval_end : float or None
            End of the data interval, seconds since the epoch; None, a person's or a manual
            run's, takes the place of the present holder in the order.
        by, why : str
            For the log.
        on_backfill : {"register-only", "promote"}
            What to do when the data is older.
        force : bool
            Promote also what callers of the present holder could not call.

        Raises
        ------
        NotFound
            If there is no such version.
        InvalidSpec
            If the signature does not fit; says how. Or the alias is no name, or is ``previous``.
        Conflict
            If others keep moving the alias.
        """

    def rollback(self, model: str, alias: str, *, by: str, why: str) -> Promotion:
        """Point an alias at the version that held it before the present one.

        Rolling back twice goes back two versions.

        Raises
        ------
        NotFound
            If there is no such alias, or nothing held it before.
        """

    def versions(self, model: str | None = None) -> tuple[ModelVersion, ...]:
        """Return the versions of a model, or of all, newest first."""

    def aliases(self, model: str | None = None) -> tuple[Alias, ...]:
        """Return the aliases of a model, or of all."""

    def log(self, model: str, alias: str | None = None) -> tuple[AliasMove, ...]:
        """Return what happened to the aliases of a model, newest first."""
