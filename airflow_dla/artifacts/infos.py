"""What the file systems of fsspec say about a file, each in its own words."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

_VERSIONS: Final = ("VersionId", "version_id", "versionId", "generation")
_ETAGS: Final = ("ETag", "etag", "e_tag", "Etag")
_TIMES: Final = ("mtime", "LastModified", "last_modified", "Last-Modified", "updated", "modified", "timeModified", "created")

#: What an unversioned bucket calls the only version there is.
_NO_VERSION: Final = ("", "null", "None")


def version_of(info: Mapping[str, Any]) -> str | None:
    """Return the version of an object, None where versions are not kept.

    Examples
    --------
    >>> version_of({"VersionId": "3sL4kqtJ"}), version_of({"VersionId": "null"})
    ('3sL4kqtJ', None)
    """
    found = _first(info, _VERSIONS)
    return None if found is None or str(found) in _NO_VERSION else str(found)


def etag_of(info: Mapping[str, Any]) -> str | None:
    """Return the entity tag, without quotes.

    Examples
    --------
    >>> etag_of({"ETag": '"9b2cf5"'})
    '9b2cf5'
    """
    found = _first(info, _ETAGS)
    return None if found is None else str(found).removeprefix("W/").strip('"') or None


def modified_at(info: Mapping[str, Any]) -> float | None:
    """Return when a file was last written, seconds since the epoch; None where nobody says.

    Examples
    --------
    >>> modified_at({"last_modified": "1970-01-01T00:01:00Z"}), modified_at({"Last-Modified": "Thu, 01 Jan 1970 00:01:00 GMT"})
    (60.0, 60.0)
    """
    found = _first(info, _TIMES)
    if isinstance(found, str):
        found = _read_time(found)
    if isinstance(found, datetime):
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return float(found) if isinstance(found, (int, float)) else None


def _read_time(written: str) -> datetime | None:
    for read in (datetime.fromisoformat, email.utils.parsedate_to_datetime):
        try:
            return read(written)
        except ValueError:
            continue
    return None


def _first(info: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((info[name] for name in names if info.get(name) is not None), None)
