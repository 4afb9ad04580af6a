"""Names of images: how one may be written, and which patterns of a policy it answers to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

_HUB: Final = "docker.io"
_OFFICIAL: Final = "library/"
#: What an engine takes for the beginning of an image's id when no image has that name.
_ID: Final = re.compile(r"sha256:[0-9a-f]+|[0-9a-f]+")


def spellings(image: str) -> tuple[str, ...]:
    """Return how an image may be named, the full name first.

    With a digest the tag says nothing, so it is dropped: a policy that allows tags allows
    no digest by it. What may be the id of any image on the engine has no other name.

    Examples
    --------
    >>> spellings("python")
    ('docker.io/library/python:latest', 'library/python:latest', 'python:latest', 'docker.io/library/python', 'library/python', 'python')
    >>> spellings("index.docker.io/pytorch/pytorch:2.6@sha256:0a")
    ('docker.io/pytorch/pytorch@sha256:0a', 'pytorch/pytorch@sha256:0a')
    >>> spellings("gpu1:5000/team/train:7")
    ('gpu1:5000/team/train:7',)
    >>> spellings("0a1b2c")
    ('0a1b2c',)
    """
    if _ID.fullmatch(image):
        return (image,)
    registry, path = _registry(image)
    name, tag = _tag(path)
    names: tuple[str, ...] = (f"{registry}/{name}",)
    if registry == _HUB:
        name = name if "/" in name else _OFFICIAL + name
        names = (f"{_HUB}/{name}", name, *([name.removeprefix(_OFFICIAL)] if name.startswith(_OFFICIAL) else []))
    return tuple(f"{known}{tag}" for known in names) + (names if tag == ":latest" else ())


def _registry(image: str) -> tuple[str, str]:
    """Return the registry and the rest: the first part is one if it has a dot or a port, or is this host."""
    first, slash, rest = image.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return _HUB, image
    return (_HUB, rest) if first == "index.docker.io" else (first, rest)


def _tag(path: str) -> tuple[str, str]:
    """Return the name and ``:tag`` or ``@digest``."""
    before, at, digest = path.partition("@")
    head, slash, last = before.rpartition("/")
    name, _, tag = last.partition(":")
    return head + slash + name, f"@{digest}" if at else f":{tag or 'latest'}"


def is_allowed(image: str, patterns: Iterable[str]) -> bool:
    """Return whether a pattern matches a spelling of an image.

    Examples
    --------
    >>> is_allowed("python:3.8", ["docker.io/*"]), is_allowed("docker.io/library/python:3.8", ["python:*"])
    (True, True)
    >>> is_allowed("evil.io/python:3.8", ["python:*", "docker.io/*"])
    False
    """
    known = spellings(image)
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in known)
