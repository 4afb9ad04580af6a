"""Garbage: what a store holds, and why each artifact stays or goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact in the store.

    Parameters
    ----------
    digest : str
    kind : str
        ``unreadable`` when its manifest is damaged.
    size : int
        Bytes of all its files; 0 when unreadable.
    published_at : float
        Seconds since the epoch by the store's clock; the last publication counts.
    """

    digest: str
    kind: str
    size: int
    published_at: float


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did, or would have done.

    Parameters
    ----------
    deleted : tuple of str
        Digests.
    kept : mapping of digest to str
        Why each stays: its root's name, or its age.
    bytes : int
        Freed, leftovers of interrupted writers included.
    """

    deleted: tuple[str, ...]
    kept: Mapping[str, str]
    bytes: int


def mark(published: Iterable[tuple[str, float]], roots: Mapping[str, str], *, before: float) -> tuple[list[str], dict[str, str]]:
    """Return what may go, and what stays and why.

    Parameters
    ----------
    published : iterable of (digest, seconds since the epoch)
    roots : mapping of digest to str
        Why each is kept.
    before : float
        Seconds since the epoch; whatever was published at or after it stays.

    Examples
    --------
    >>> mark([("a", 10), ("b", 10), ("c", 99)], {"a": "model digits@3"}, before=50)
    (['b'], {'a': 'model digits@3', 'c': 'published a moment ago'})
    """
    gone: list[str] = []
    kept: dict[str, str] = {}
    for digest, at in published:
        if digest in roots:
            kept[digest] = roots[digest]
        elif at >= before:
            kept[digest] = "published a moment ago"
        else:
            gone.append(digest)
    return gone, kept
