"""Metrics of programs that know nothing of us, read from their log when they have ended."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

#: Numbers stand near the beginning or the end of a line; what is longer is not looked through.
_LONGEST: Final = 65_536


def readings(patterns: Mapping[str, str], pieces: Iterable[bytes]) -> dict[str, float]:
    r"""Return the last value of each metric in a log that comes in pieces; holds one line at a time.

    Parameters
    ----------
    patterns : mapping of metric to regular expression
        With one group, the number.
    pieces : iterable of bytes

    Examples
    --------
    >>> readings({"auc": r"auc=(\S+)"}, [b"auc=0.5\nau", b"c=0.75\r\n"])
    {'auc': 0.75}
    """
    if not patterns:
        return {}
    compiled = {name: re.compile(pattern) for name, pattern in patterns.items()}
    found: dict[str, float] = {}
    for line in lines_of(pieces):
        text = line.decode("utf-8", "replace")
        for name, pattern in compiled.items():
            match = pattern.search(text)
            value = _number(match[1]) if match else None
            if value is not None:
                found[name] = value
    return found


def lines_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    r"""Yield the lines of a log that comes in pieces, of what is too long the end.

    Examples
    --------
    >>> list(lines_of([b"a\nb", b"c\r\nd"]))
    [b'a', b'bc', b'd']
    """
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).replace(b"\r", b"\n").split(b"\n")
        yield from (line[-_LONGEST:] for line in lines if line)
        rest = rest[-_LONGEST:]
    if rest:
        yield rest


def _number(text: str) -> float | None:
    try:
        value = float(text.strip().rstrip(",;%"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
