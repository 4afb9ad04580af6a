"""The registry in the workspace's ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from airflow_dla.errors import Conflict, InvalidSpec, NotFound
from airflow_dla.ledger import Alias, AliasMove, Ledger, ModelVersion
from airflow_dla.registry.contract import OnBackfill, Promotion
from airflow_dla.registry.signature import Signature, compatible
from airflow_dla.registry.succession import holders, older
from airflow_dla.specs import ModelRef
from airflow_dla.specs.references import digest as parse_digest
from airflow_dla.specs.values import choice, identifier, json_value, mapping_of, text
from airflow_dla.specs.values import number as parse_number

#: The alias whose former holder is kept under another one.
CHAMPION: Final = "champion"
PREVIOUS: Final = "previous"

#: Turns of "somebody else moved it meanwhile" before we give up.
_TURNS: Final = 20

_metrics = mapping_of(parse_number, key=text)
_lineage = mapping_of(json_value)


class LedgerRegistry:
    """A `Registry` on a `Ledger`'s operations.

    Parameters
    ----------
    ledger : `Ledger`
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

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
        """Register a version under the next number; see `Registry`."""
        return self._ledger.register_version(
            identifier(model, "model name"),
            digest=parse_digest(digest, "model digest"),
            signature=Signature.from_mapping(signature).to_mapping(),
            metrics=_metrics(metrics, "model metrics"),
            lineage=_lineage(lineage, "model lineage"),
            registered_by=text(registered_by, "registered_by"),
        )

    def resolve(self, reference: ModelRef) -> ModelVersion | None:
        """Return the version a reference means; see `Registry`."""
        found = self._pinned(reference) if reference.digest else self._named(reference)
        if found is None and reference.missing != "skip":
            pinned = f" with digest {reference.digest}" if reference.digest else ""
            raise NotFound(f"there is no model version {reference.model!r}{pinned}; {self._known(reference.name)}")
        return found

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
        """Point an alias at a version; see `Registry`."""
        _check_alias(alias)
        choice("register-only", "promote")(on_backfill, "on_backfill")
        candidate = self._version(model, number)

        def attempt(present: Alias | None) -> Promotion:
            if present is None:
                return self._move(model, alias, number, None, interval_end, by=by, why=why)
            if present.number == number:
                return _stays(present, f"{alias} of {model} is version {number} already")
            if older(interval_end, present.interval_end) and on_backfill != "promote":
                return _stays(present, _backfill(present))
            if not force:
                _refuse_misfit(self._version(model, present.number), candidate, alias)
            end = present.interval_end if interval_end is None else interval_end
            return self._move(model, alias, number, present.number, end, by=by, why=why)

        return self._settled(model, alias, attempt, by=by)

    def rollback(self, model: str, alias: str, *, by: str, why: str) -> Promotion:
        """Point an alias at its previous holder; see `Registry`."""
        _check_alias(alias)

        def attempt(present: Alias | None) -> Promotion:
            if present is None:
                raise NotFound(f"model {model!r} has no alias {alias!r}; {self._known(model)}")
            held = self._holders(model, alias)
            if len(held) < 2 or held[-1] != present.number:  # noqa: PLR2004 (the present one, and one before)
                raise NotFound(f"nothing held {alias!r} of {model!r} before version {present.number}; promote the version that you want")
            return self._move(model, alias, held[-2], present.number, present.interval_end, by=by, why=why)

        return self._settled(model, alias, attempt, by=by)

    def versions(self, model: str | None = None) -> tuple[ModelVersion, ...]:
        """Return the versions of a model, or of all, newest first."""
        return self._ledger.model_versions(model)

    def aliases(self, model: str | None = None) -> tuple[Alias, ...]:
        """Return the aliases of a model, or of all."""
        return self._ledger.aliases(model)

    def log(self, model: str, alias: str | None = None) -> tuple[AliasMove, ...]:
        """Return what happened to the aliases of a model, newest first."""
        return self._ledger.alias_log(model, alias)

    def _settled(self, model: str, alias: str, attempt: Callable[[Alias | None], Promotion], *, by: str) -> Promotion:
        """Try until nobody else moves the alias between the look and the move."""
        for _ in range(_TURNS):
            try:
                settled = attempt(self._present(model, alias))
            except Conflict:
                continue
            if alias == CHAMPION:
                self._keep_previous(model, by=by)
            return settled
        raise Conflict(f"alias {alias!r} of {model!r} was moved by others {_TURNS} times meanwhile; try again")

    def _move(self, model: str, alias: str, number: int, old: int | None, interval_end: float | None, *, by: str, why: str) -> Promotion:
        self._ledger.move_alias(model, alias, number, expected=old, interval_end=interval_end, by=by, why=why)
        before = "new" if old is None else f"was version {old}"
        return Promotion(True, alias, number, old, f"{alias} of {model} is version {number} now ({before}): {why}")

    def _keep_previous(self, model: str, *, by: str) -> None:
        """Point ``previous`` at what a rollback would bring back; also repairs it after a crash in between."""
        for _ in range(_TURNS):
            held, present = self._holders(model, CHAMPION), self._present(model, PREVIOUS)
            old = present.number if present else None
            if len(held) < 2 or held[-2] == old:  # noqa: PLR2004 (the present one, and one before)
                return
            try:
                self._move(model, PREVIOUS, held[-2], old, None, by=by, why=f"{CHAMPION} is version {held[-1]} now")
            except Conflict:
                continue
            return

    def _holders(self, model: str, alias: str) -> list[int]:
        return holders(reversed(self._ledger.alias_log(model, alias)))

    def _present(self, model: str, alias: str) -> Alias | None:
        return next((found for found in self._ledger.aliases(model) if found.alias == alias), None)

    def _named(self, reference: ModelRef) -> ModelVersion | None:
        number = self._number(reference)
        return next((version for version in self._ledger.model_versions(reference.name) if version.number == number), None)

    def _pinned(self, reference: ModelRef) -> ModelVersion | None:
        """Return the version with the reference's digest; where several have it, the one that it names comes first."""
        same = [version for version in self._ledger.model_versions(reference.name) if version.digest == reference.digest]
        number = self._number(reference)
        others = same[0] if same and reference.number is None else None
        return next((version for version in same if version.number == number), others)

    def _number(self, reference: ModelRef) -> int | None:
        if reference.alias is None:
            return reference.number
        present = self._present(reference.name, reference.alias)
        return present.number if present else None

    def _version(self, model: str, number: int) -> ModelVersion:
        found = next((version for version in self._ledger.model_versions(model) if version.number == number), None)
        if found is None:
            raise NotFound(f"there is no model version '{model}@{number}'; {self._known(model)}")
        return found

    def _known(self, model: str) -> str:
        versions = [version.number for version in self._ledger.model_versions(model)]
        if not versions:
            known = sorted({version.model for version in self._ledger.model_versions()})
            return f"there is no model {model!r}; known are {', '.join(known) or 'none yet'}: register one with SaveModelOperator"
        aliases = [f"{found.alias} ({found.number})" for found in self._ledger.aliases(model)]
        return f"{model!r} has versions {', '.join(map(str, sorted(versions)))} and aliases {', '.join(aliases) or 'none'}"


def _check_alias(alias: str) -> None:
    identifier(alias, "alias")
    if alias.isdigit():
        raise InvalidSpec(f"an alias must not be a number, got {alias!r}: '@{alias}' means a version; choose a word such as {CHAMPION!r}")
    if alias == PREVIOUS:
        raise InvalidSpec(f"alias {PREVIOUS!r} follows {CHAMPION!r} by itself; promote or roll back that one, or choose another word")


def _stays(present: Alias, reason: str) -> Promotion:
    return Promotion(False, present.alias, present.number, present.number, reason)


def _backfill(present: Alias) -> str:
    return (
        f"registered only: {present.alias} of {present.model} is version {present.number}, made from newer data; "
        "on_backfill='promote' would promote older data over it"
    )


def _refuse_misfit(present: ModelVersion, candidate: ModelVersion, alias: str) -> None:
    differences = compatible(Signature.from_mapping(present.signature), Signature.from_mapping(candidate.signature))
    if differences:
        raise InvalidSpec(
            f"version {candidate.number} of {candidate.model!r} cannot take the place of version {present.number} as {alias!r}: "
            f"{'; '.join(differences)}; promote it with force when its callers are ready"
        )
