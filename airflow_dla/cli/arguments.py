"""Types of command-line arguments: what breaks their rule is a usage error, exit status 2."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from typing import Any

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import values
from airflow_dla.specs.resources import amounts


def natural(raw: str) -> int:
    """Read a whole number that is not negative."""
    return int(_read(values.natural, raw))


def whole(raw: str) -> int:
    """Read a whole number greater than zero."""
    return int(_read(values.positive(values.integer), raw))


def positive(raw: str) -> float:
    """Read a number greater than zero."""
    return float(_read(values.positive(values.number), raw))


def interval(raw: str) -> slice:
    """Read ``A:B``, the A-th to the one before the B-th, from 0; either may be left out.

    Examples
    --------
    >>> interval("300:500")
    slice(300, 500, None)
    """
    first, colon, last = raw.partition(":")
    if not colon:
        raise ArgumentTypeError(f"it must be A:B, got {raw!r}")
    return slice(natural(first) if first else None, natural(last) if last else None)


def more(raw: str) -> dict[str, float]:
    """Read amounts by resource.

    Examples
    --------
    >>> more("gpu=2,memory=512MiB")
    {'gpu': 2.0, 'memory': 0.5}
    """
    pairs = [part.partition("=") for part in raw.split(",")]
    if not all(equals and value for _, equals, value in pairs):
        raise ArgumentTypeError(f"it must be like gpu=2,memory=64GiB, got {raw!r}")
    return dict(_read(amounts, {name.strip(): value.strip() for name, _, value in pairs}))


def argument(raw: str) -> tuple[str, Any]:
    """Read ``NAME=VALUE``; a value that is JSON means that, any other is a text.

    Examples
    --------
    >>> argument("lr=0.1"), argument("optimizer=adam"), argument("layers=[64, 10]")
    (('lr', 0.1), ('optimizer', 'adam'), ('layers', [64, 10]))
    """
    name, equals, value = raw.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"it must be NAME=VALUE, such as lr=0.1, got {raw!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def duration(raw: str) -> float:
    """Read a duration, ``90``, ``90s``, ``30m``, ``2h`` or ``1d``, in seconds."""
    return float(_read(values.seconds, raw))


def _read(parse: values.Parse, raw: object) -> Any:
    try:
        return parse(raw, "it")
    except InvalidSpec as error:
        raise ArgumentTypeError(str(error)) from None
