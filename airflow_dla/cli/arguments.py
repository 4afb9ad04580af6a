"""Types of command-line arguments: what breaks their rule is a usage error, exit status 2."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import values


def natural(raw: str) -> int:
    """Read a whole number that is not negative."""
    return int(_read(values.natural, raw))


def whole(raw: str) -> int:
    """Read a whole number greater than zero."""
    return int(_read(values.positive(values.integer), raw))


def duration(raw: str) -> float:
    """Read a duration, ``90``, ``90s``, ``30m``, ``2h`` or ``1d``, in seconds."""
    return float(_read(values.seconds, raw))


def _read(parse: values.Parse, raw: str) -> Any:
    try:
        return parse(raw, "it")
    except InvalidSpec as error:
        raise ArgumentTypeError(str(error)) from None
