"""From a URL to what fsspec opens it with; the only place that sees a store's credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fsspec.core

from airflow_dla.artifacts.faults import explained, redacted
from airflow_dla.errors import InvalidSpec, MissingExtra
from airflow_dla.specs import public_url


def opened(url: str, options: Mapping[str, Any], *, where: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it.

    Parameters
    ----------
    url : str
        Without a password.
    options : mapping
        Keyword arguments of the file system: credentials, endpoint.
    where : str
        What the URL is, for messages.

    Raises
    ------
    SecretExposed
        If the URL carries a password.
    InvalidSpec
        If fsspec knows no such protocol.
    MissingExtra
        If the package that speaks it is not installed.
    StoreUnavailable
        If it refuses.
    """
    public_url(url, where)
    with explained(f"open {where} {url}", secrets=secrets_of(options)):
        try:
            fs, path = fsspec.core.url_to_fs(url, **_signing(url, options))
        except ImportError as error:
            raise MissingExtra(f"{where} {url}: {error}") from error
        except ValueError as error:
            why = redacted(str(error), secrets_of(options))
            raise InvalidSpec(f"{where} {url} cannot be opened: {why}; use a folder, or a protocol fsspec knows, as in s3://…") from None
    return fs, str(path)


def _signing(url: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options with which addresses of S3 are signed as every region takes them: its library would sign as some did long ago."""
    if not url.startswith(("s3://", "s3a://")):
        return options
    return {**options, "config_kwargs": {"signature_version": "s3v4", **(options.get("config_kwargs") or {})}}


def secrets_of(options: Mapping[str, Any]) -> frozenset[str]:
    """Return every text inside file-system options, at any depth: none of it may be repeated.

    Examples
    --------
    >>> sorted(secrets_of({"key": "AKIA1", "client_kwargs": {"verify": True, "region_name": "eu-1"}}))
    ['AKIA1', 'eu-1']
    """
    found: set[str] = set()
    for value in options.values():
        if isinstance(value, str) and value:
            found.add(value)
        elif isinstance(value, Mapping):
            found |= secrets_of(value)
    return frozenset(found)
