"""Addresses of single files of an object store that are good for some minutes, for whoever has none of its credentials."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

#: Seconds that an address is good for; what began before then may end later.
EXPIRES_S: Final = 900
#: Largest file that one request may write: S3 and Azure take 5 GB, and more only in parts.
LARGEST_WRITE: Final = 5_000_000_000

#: What `sign` of each file system is told, by protocol: for S3 s3fs, for Google gcsfs, for Azure adlfs, which signs reads only.
_READS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType({
    "s3": {"client_method": "get_object"},
    "gs": {"method": "GET", "version": "v4"},
    "abfs": {},
})  # fmt: skip
_WRITES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType({
    "s3": {"client_method": "put_object"},
    "gs": {"method": "PUT", "version": "v4"},
})  # fmt: skip


def sign(fs: Any, path: str, *, write: bool, expires_s: int = EXPIRES_S) -> dict[str, Any] | None:
    """Return an address that reads, or writes, one file.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
    path : str
        In it.
    write : bool
    expires_s : int

    Returns
    -------
    dict or None
        ``{"url": …}``, a secret while it is good; None where the store, or what we may do there, allows none.

    Examples
    --------
    >>> from fsspec.implementations.memory import MemoryFileSystem
    >>> sign(MemoryFileSystem(), "/a", write=False) is None
    True
    """
    names = [fs.protocol] if isinstance(fs.protocol, str) else list(fs.protocol)
    told = next((_told for name in names if (_told := (_WRITES if write else _READS).get(name)) is not None), None)
    if told is None:
        return None
    try:
        return {"url": str(fs.sign(path, expiration=expires_s, **told))}
    except Exception:  # noqa: BLE001 - credentials that cannot sign, each library in its own words: then the bytes go through us
        return None
