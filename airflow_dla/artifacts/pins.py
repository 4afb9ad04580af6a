"""Pins: what data outside the store looked like when it was first used.

An object's version or entity tag where there is one, else size and time; for a folder the
digest of its listing. A pin is cheap and finds honest changes; it is no hash of the bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from airflow_dla.artifacts.faults import explained
from airflow_dla.artifacts.infos import etag_of, modified_at, version_of
from airflow_dla.artifacts.places import opened, secrets_of
from airflow_dla.errors import CorruptArtifact, InvalidSpec, NotFound
from airflow_dla.specs import UriRef


def pin(ref: UriRef, *, options: Mapping[str, Any] | None = None) -> UriRef:
    """Return the reference with what is there now as its pin.

    Parameters
    ----------
    ref : `UriRef`
        An old pin is replaced.
    options : mapping, optional
        Keyword arguments of the file system: credentials, endpoint.

    Returns
    -------
    `UriRef`
        ``pin`` holds ``version``, or ``etag``, or ``size`` and ``mtime``; of a folder
        ``listing``, ``files`` and ``size``; ``unverifiable`` where a server tells nothing.

    Raises
    ------
    NotFound
        If there is nothing.
    StoreUnavailable
        If nobody answers.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     sorted(pin(UriRef(uri=f"file://{file.name}")).pin)
    ['mtime', 'size']
    """
    options = options or {}
    fs, path = opened(ref.uri, options, where="input")
    with explained(f"look at input {ref.uri}", secrets=secrets_of(options)):
        fs.invalidate_cache()
        try:
            info = fs.info(path)
            seen = folder_pin(fs.find(path, detail=True), path) if info.get("type") == "directory" else file_pin(info)
        except FileNotFoundError:
            raise NotFound(f"input {ref.uri} does not exist; correct the address, or run what writes it first") from None
    return dataclasses.replace(ref, pin=seen)


def check_pin(ref: UriRef, *, options: Mapping[str, Any] | None = None) -> None:
    """Check that what is there now is what was pinned.

    Raises
    ------
    InvalidSpec
        If the reference has no pin.
    NotFound
        If it is gone.
    CorruptArtifact
        If it changed.
    """
    if not ref.pin:
        raise InvalidSpec(f"input {ref.uri} has no pin to check; pin it when it is first used")
    now = pin(ref, options=options).pin
    if dict(now) != dict(ref.pin):
        raise CorruptArtifact(
            f"input {ref.uri} changed since it was pinned: it was {_shown(ref.pin)}, it is {_shown(now)}; "
            "put the old data back, or clear the task that pinned it"
        )


def file_pin(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pin of a file from what its file system says.

    Examples
    --------
    >>> file_pin({"size": 3, "ETag": '"9b2cf5"', "VersionId": "3sL4kqtJ"})
    {'version': '3sL4kqtJ'}
    >>> file_pin({"size": 3, "mtime": 60.0})
    {'size': 3, 'mtime': 60.0}
    """
    if version := version_of(info):
        return {"version": version}
    if etag := etag_of(info):
        return {"etag": etag}
    seen = {"size": info.get("size"), "mtime": modified_at(info)}
    known = {key: value for key, value in seen.items() if value is not None}
    return known or {"unverifiable": "the server tells neither version, etag, size nor time"}


def folder_pin(found: Mapping[str, Mapping[str, Any]], top: str) -> dict[str, Any]:
    """Return the pin of a folder from the files below it.

    Examples
    --------
    >>> folder_pin({"b/x": {"size": 3, "mtime": 60.0}}, "b")["files"]
    1
    """
    listing = sorted((path.removeprefix(top).lstrip("/"), info.get("size"), file_pin(info)) for path, info in found.items())
    digest = hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()
    return {"listing": f"sha256:{digest}", "files": len(listing), "size": sum(size or 0 for _, size, _ in listing)}


def _shown(seen: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in seen.items())
