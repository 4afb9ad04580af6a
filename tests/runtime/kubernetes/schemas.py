"""The API's own schemas, strict: a field that no version knows is refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import kubernetes_validate

#: The oldest and the newest that places are tried with.
VERSIONS = ("1.33", "1.36")


def check(document: Mapping[str, Any], version: str = VERSIONS[-1]) -> None:
    """Check a document against the schema of its kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # theirs: they read schemas and leave the files open
        kubernetes_validate.validate(dict(document), version, strict=True)
