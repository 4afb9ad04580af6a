"""What every `Registry` does. Subclass it and make the fixture ``registry``."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_dla.errors import InvalidSpec, NotFound
from airflow_dla.ledger import ModelVersion
from airflow_dla.registry import Registry
from airflow_dla.specs import ModelRef

_counter = itertools.count()


def digest(letter: str = "a") -> str:
    """Return a digest that is easy to tell from others."""
    return "sha256:" + letter * 64


def tensor(name: str = "x", dtype: str = "F32", shape: Any = (-1, 64)) -> dict[str, Any]:
    """Return the mapping of a tensor."""
    return {"name": name, "dtype": dtype, "shape": list(shape)}


def add(registry: Registry, *, model: str = "digits", letter: str = "a", inputs: Any = None, by: str | None = None) -> ModelVersion:
    """Register one more version."""
    return registry.register(
        model,
        digest=digest(letter),
        signature={"inputs": [tensor()] if inputs is None else inputs, "outputs": [tensor("y", shape=(-1, 10))]},
        metrics={"accuracy": 0.97},
        lineage={"args": {"epochs": 3}, "seed": 7},
        registered_by=by or f"job.{next(_counter)}",
    )


def champion(registry: Registry, number: int, interval_end: float | None = None, **more: Any):
    """Promote a version of ``digits`` to champion."""
    return registry.promote("digits", number, "champion", interval_end=interval_end, by="test", why="gate held", **more)


class RegistryContract:
    """The laws of a registry."""

    def test_numbers_count_from_one_per_model(self, registry: Registry) -> None:
        """Each model counts its own versions."""
        assert [add(registry).number, add(registry).number, add(registry, model="other").number] == [1, 2, 1]

    def test_registering_twice_for_one_attempt_is_once(self, registry: Registry) -> None:
        """A retry after a crash gets the version that the first call made."""
        assert add(registry, by="job.1").number == add(registry, by="job.1").number == 1

    def test_a_version_holds_what_was_registered(self, registry: Registry) -> None:
        """Digest, signature, metrics and lineage come back as they were given."""
        add(registry)
        found = registry.versions("digits")[0]
        assert (found.digest, found.metrics, found.lineage["seed"]) == (digest(), {"accuracy": 0.97}, 7)
        assert found.signature["inputs"] == [tensor()]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"model": "no/name"},
            {"digest": "sha256:12"},
            {"metrics": {"accuracy": float("nan")}},
            {"signature": {"inputs": [{"name": "x"}]}},
            {"signature": {"inputs": [tensor(), tensor()]}},
            {"lineage": {"when": object()}},
            {"registered_by": ""},
        ],
    )
    def test_what_breaks_a_rule_is_refused(self, registry: Registry, wrong: dict[str, Any]) -> None:
        """Nothing is registered from a bad name, digest, metric, signature or lineage."""
        given = {"model": "digits", "digest": digest(), "signature": {}, "metrics": {}, "lineage": {}, "registered_by": "job.1", **wrong}
        with pytest.raises(InvalidSpec):
            registry.register(given.pop("model"), **given)
        assert registry.versions() == ()

    def test_a_reference_resolves_by_number_and_by_alias(self, registry: Registry) -> None:
        """``digits@2`` and ``digits@champion`` find their versions."""
        add(registry), add(registry, letter="b")
        champion(registry, 1)
        by_number = registry.resolve(ModelRef(model="digits@2"))
        by_alias = registry.resolve(ModelRef(model="digits@champion"))
        assert by_number is not None
        assert by_alias is not None
        assert (by_number.number, by_alias.number) == (2, 1)

    def test_a_missing_version_names_those_there_are(self, registry: Registry) -> None:
        """The message lists versions and aliases, and the models when the model is unknown."""
        add(registry)
        champion(registry, 1)
        with pytest.raises(NotFound, match=r"versions 1 and aliases champion \(1\)"):
            registry.resolve(ModelRef(model="digits@9"))
        with pytest.raises(NotFound, match="known are digits"):
            registry.resolve(ModelRef(model="digit@champion"))

    def test_a_missing_version_may_be_skipped(self, registry: Registry) -> None:
        """The first run of a pipeline has no champion to compare with."""
        assert registry.resolve(ModelRef(model="digits@champion", missing="skip")) is None

    def test_a_pinned_reference_stays_when_the_alias_moves(self, registry: Registry) -> None:
        """A retry reads the model that the first try read."""
        add(registry), add(registry, letter="b")
        champion(registry, 2)
        found = registry.resolve(ModelRef(model="digits@champion", digest=digest()))
        assert found is not None
        assert found.number == 1
        with pytest.raises(NotFound, match="with digest"):
            registry.resolve(ModelRef(model="digits@1", digest=digest("b")))

    def test_of_versions_with_equal_bytes_the_named_one_is_meant(self, registry: Registry) -> None:
        """Equal digests do not blur lineage and metrics."""
        add(registry), add(registry)
        champion(registry, 1)
        found = registry.resolve(ModelRef(model="digits@champion", digest=digest()))
        assert found is not None
        assert found.number == 1

    def test_a_promotion_moves_the_alias_and_says_so(self, registry: Registry) -> None:
        """The first has no previous holder, the second has."""
        add(registry), add(registry)
        first, second = champion(registry, 1, 10.0), champion(registry, 2, 20.0)
        assert (first.moved, first.previous, second.moved, second.previous) == (True, None, True, 1)
        assert [(found.alias, found.number, found.interval_end) for found in registry.aliases("digits")] == [
            ("champion", 2, 20.0),
            ("previous", 1, None),
        ]

    def test_a_promotion_of_the_holder_changes_nothing(self, registry: Registry) -> None:
        """A retry after a crash finds it done."""
        add(registry)
        champion(registry, 1)
        again = champion(registry, 1)
        assert (again.moved, again.number) == (False, 1)
        assert len(registry.log("digits", "champion")) == 1

    def test_older_data_never_promotes(self, registry: Registry) -> None:
        """A backfill registers and leaves the alias alone."""
        add(registry), add(registry)
        champion(registry, 1, 20.0)
        stays = champion(registry, 2, 10.0)
        assert (stays.moved, stays.number) == (False, 1)
        assert "registered only" in stays.reason

    def test_older_data_promotes_when_asked(self, registry: Registry) -> None:
        """``on_backfill="promote"`` is a decision of the author."""
        add(registry), add(registry)
        champion(registry, 1, 20.0)
        assert champion(registry, 2, 10.0, on_backfill="promote").moved

    def test_a_manual_run_keeps_the_order(self, registry: Registry) -> None:
        """A promotion without an interval takes the holder's place: a backfill still does not overtake it."""
        for _ in range(3):
            add(registry)
        champion(registry, 1, 20.0)
        assert champion(registry, 2).moved
        assert not champion(registry, 3, 10.0).moved

    def test_a_misfit_is_refused_unless_forced(self, registry: Registry) -> None:
        """Callers of the champion must be able to call its successor."""
        add(registry), add(registry, inputs=[tensor(shape=(-1, 32))])
        champion(registry, 1)
        with pytest.raises(InvalidSpec, match=r"input 'x' was F32 \[any, 64\], is F32 \[any, 32\]"):
            champion(registry, 2)
        assert champion(registry, 2, force=True).moved

    def test_an_unknown_version_is_not_promoted(self, registry: Registry) -> None:
        """The message lists what there is."""
        add(registry)
        with pytest.raises(NotFound, match="digits@4"):
            champion(registry, 4)

    @pytest.mark.parametrize("alias", ["3", "previous", "a b"])
    def test_an_alias_is_a_word(self, registry: Registry, alias: str) -> None:
        """A number would mean a version, and ``previous`` is kept by the registry."""
        add(registry)
        with pytest.raises(InvalidSpec):
            registry.promote("digits", 1, alias, interval_end=None, by="test", why="")

    def test_rollback_goes_back_one_holder_each_time(self, registry: Registry) -> None:
        """Twice goes back two, a third time there is nothing left."""
        for number in (1, 2, 3):
            add(registry)
            champion(registry, number, float(number))
        back = [registry.rollback("digits", "champion", by="test", why="errors").number for _ in range(2)]
        assert back == [2, 1]
        with pytest.raises(NotFound, match="nothing held 'champion'"):
            registry.rollback("digits", "champion", by="test", why="errors")

    def test_rollback_keeps_the_place_in_the_order(self, registry: Registry) -> None:
        """After a rollback an old backfill still does not promote, and the next run does."""
        for number in (1, 2):
            add(registry)
            champion(registry, number, float(number) * 10)
        registry.rollback("digits", "champion", by="test", why="errors")
        add(registry)
        assert not champion(registry, 3, 15.0).moved
        assert champion(registry, 3, 30.0).moved

    def test_previous_is_what_a_rollback_would_bring_back(self, registry: Registry) -> None:
        """Also after a rollback."""
        for number in (1, 2, 3):
            add(registry)
            champion(registry, number)
        registry.rollback("digits", "champion", by="test", why="errors")
        found = registry.resolve(ModelRef(model="digits@previous"))
        assert found is not None
        assert found.number == 1

    def test_other_aliases_leave_previous_alone(self, registry: Registry) -> None:
        """``previous`` belongs to the champion."""
        add(registry), add(registry)
        for number in (1, 2):
            registry.promote("digits", number, "challenger", interval_end=None, by="test", why="")
        assert [found.alias for found in registry.aliases("digits")] == ["challenger"]

    def test_rollback_of_an_unknown_alias_is_refused(self, registry: Registry) -> None:
        """The message lists the aliases there are."""
        add(registry)
        with pytest.raises(NotFound, match="no alias 'champion'"):
            registry.rollback("digits", "champion", by="test", why="")

    def test_the_log_holds_every_move(self, registry: Registry) -> None:
        """Newest first, with who and why."""
        for number in (1, 2):
            add(registry)
            champion(registry, number)
        registry.rollback("digits", "champion", by="ann", why="errors")
        moves = [(move.old, move.new, move.by, move.why) for move in registry.log("digits", "champion")]
        assert moves == [(2, 1, "ann", "errors"), (1, 2, "test", "gate held"), (None, 1, "test", "gate held")]

    def test_of_many_promotions_at_once_the_newest_data_wins(self, registry: Registry) -> None:
        """Whatever the order of arrival, no older interval ends up on top."""
        numbers = [add(registry).number for _ in range(6)]
        barrier = threading.Barrier(len(numbers))

        def promote(number: int) -> None:
            barrier.wait(10)
            champion(registry, number, float(number))

        with ThreadPoolExecutor(len(numbers)) as pool:
            list(pool.map(promote, numbers))
        found = registry.resolve(ModelRef(model="digits@champion"))
        assert found is not None
        assert found.number == 6
        ends = [move.new for move in reversed(registry.log("digits", "champion"))]
        assert ends == sorted(ends)
