"""Succession: who may hold an alias next, and who held it before. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_dla.ledger import AliasMove


def older(candidate: float | None, holder: float | None) -> bool:
    """Return whether a candidate's data ends before the holder's; what has no interval is never older.

    Parameters
    ----------
    candidate, holder : float or None
        Ends of data intervals, seconds since the epoch.

    Examples
    --------
    >>> older(10.0, 20.0), older(20.0, 20.0), older(None, 20.0)
    (True, False, False)
    """
    return candidate is not None and holder is not None and candidate < holder


def holders(moves: Iterable[AliasMove]) -> list[int]:
    """Return the versions that hold and held an alias, the present one last; a move back takes one away.

    Parameters
    ----------
    moves : iterable of `AliasMove`
        Oldest first.

    Examples
    --------
    >>> def move(old, new):
    ...     return AliasMove("m", "champion", old, new, why="", by="", at=0.0)
    >>> holders([move(None, 1), move(1, 2), move(2, 3), move(3, 2)])
    [1, 2]
    """
    stack: list[int] = []
    for move in moves:
        if stack[-2:-1] == [move.new]:
            stack.pop()
        elif stack[-1:] != [move.new]:
            stack.append(move.new)
    return stack
