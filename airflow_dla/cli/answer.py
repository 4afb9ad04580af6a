"""What a command answers, for programs and for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

_KIB: Final = 1024
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has to say.

    Parameters
    ----------
    document : JSON value
        For ``--json``.
    text : str
        The same for a person.
    ok : bool
        Whether the exit status is 0.
    """

    document: Any
    text: str
    ok: bool = True


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "nothing") -> str:
    """Write rows under a header, each column as wide as its widest cell, the last one as it is.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequences
        As long as the header; None is written as ``-``.
    empty : str
        What to write when there is no row.

    Examples
    --------
    >>> print(table(["NAME", "CPU"], [("a", 50), ("long", None)]))
    NAME  CPU
    a     50
    long  -
    """
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    if not cells:
        return empty
    lines = [list(header), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def listing(fields: Mapping[str, object]) -> str:
    """Write names and values, one on a line; None is left out.

    Examples
    --------
    >>> print(listing({"state": "running", "exit": None, "attempt": 2}))
    state    running
    attempt  2
    """
    said = {name: str(value) for name, value in fields.items() if value is not None}
    width = max(map(len, said), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in said.items())


def when(seconds: float | None) -> str | None:
    """Write a time, seconds since the epoch, in UTC.

    Examples
    --------
    >>> when(0.0)
    '1970-01-01 00:00:00Z'
    """
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def size(count: float) -> str:
    """Write a number of bytes.

    Examples
    --------
    >>> size(512), size(3 * 1024**3)
    ('512 B', '3.0 GiB')
    """
    if count < _KIB:
        return f"{count:g} B"
    power = min(int(math.log(count, _KIB)), len(_UNITS) - 1)
    return f"{count / _KIB**power:.1f} {_UNITS[power]}"


def metrics(values: Mapping[str, float]) -> str | None:
    """Write metrics in one line.

    Examples
    --------
    >>> metrics({"accuracy": 0.98, "loss": 0.1})
    'accuracy 0.98, loss 0.1'
    """
    return ", ".join(f"{name} {value:g}" for name, value in values.items()) or None
