"""The tree of errors: as drawn, with the builtins promised, and safe to send to another process."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from airflow_dla import errors
from airflow_dla.errors import DlaError

CLASSES = [getattr(errors, name) for name in errors.__all__]
EVERY = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
BUILTINS = {kind.__name__: kind for kind in vars(__import__("builtins")).values() if inspect.isclass(kind)}
NOT_RETRYABLE = {
    "InvalidSpec",
    "NeverGrantable",
    "SecretExposed",
    "NotFound",
    "WorkspaceMismatch",
    "MissingExtra",
    "LaunchRefused",
    "LedgerVersion",
    "GateFailed",
}


def _drawn() -> dict[str, tuple[int, str | None]]:
    """Read the picture in the module's docstring: name, depth and builtin of every error."""
    lines = re.findall(
        r"^( *[│├└─ ]*)(\w+)(?: \((\w+)\))?(?: {2,}.*)?$", inspect.getdoc(errors).split("::")[1].split("A message")[0], re.MULTILINE
    )
    return {name: ((len(indent) - 4) // 4, builtin or None) for indent, name, builtin in lines}


def test_the_picture_shows_every_error():
    """Nothing is missing from it, nothing is only there, and ``__all__`` is complete."""
    public = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    assert set(_drawn()) == public == set(errors.__all__)


@EVERY
def test_an_error_is_where_it_is_drawn(kind: type[DlaError]):
    """Its depth below the root and the builtin it is."""
    depth, builtin = _drawn()[kind.__name__]
    ours = [base for base in kind.__mro__ if issubclass(base, DlaError)]
    assert depth == len(ours) - 1
    if builtin:
        assert issubclass(kind, BUILTINS[builtin])


@EVERY
def test_an_error_says_its_message(kind: type[DlaError]):
    """Alone, and after a trip to another process."""
    error = kind("cpu must be >= 0, got -1 (job 'resnet')")
    assert str(error) == "cpu must be >= 0, got -1 (job 'resnet')"
    sent = pickle.loads(pickle.dumps(error))
    assert (type(sent), str(sent)) == (kind, str(error))


@EVERY
def test_an_error_says_when_it_is_raised(kind: type[DlaError]):
    """One sentence each."""
    assert re.match(r"Raised |Base of ", inspect.getdoc(kind))


def test_only_these_are_not_worth_a_retry():
    """Trying again cannot help there; everywhere else it may."""
    assert {kind.__name__ for kind in CLASSES if not kind.retryable} == NOT_RETRYABLE
