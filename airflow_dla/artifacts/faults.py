"""What the world does to a store, said so that a person can act on it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from airflow_dla.errors import DlaError, StoreUnavailable

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def explained(doing: str, *, secrets: Collection[str] = ()) -> Iterator[None]:
    """Turn whatever goes wrong inside into `StoreUnavailable`; our own errors pass.

    Parameters
    ----------
    doing : str
        What was tried and where, the beginning of the message.
    secrets : collection of str
        Never repeated, neither in the message nor by the error's cause.
    """
    try:
        yield
    except DlaError:
        raise
    except Exception as error:  # noqa: BLE001 (a client of an object store raises errors of its own making)
        why = redacted(_reason(error), secrets)
        raise StoreUnavailable(f"cannot {doing}: {why}") from None if secrets else error


def _reason(error: Exception) -> str:
    if not isinstance(error, OSError) or error.errno is None:
        return f"{type(error).__name__}: {error}; check that the store is reachable and its credentials are valid"
    where = os.fspath(error.filename) if isinstance(error.filename, (str, os.PathLike)) else "the store"
    return f"{where}: {error.strerror}; {_remedy(error.errno, where)}"


def _remedy(code: int, where: str) -> str:
    if code in _FULL:
        return f"free space there{_free(where)}: run 'airflow dla artifacts gc', or name a larger store in the workspace's connection"
    if code in _REFUSED:
        return f"user id {os.geteuid()} may not do that: mount it writable and give this user the rights, or name another store"
    return "check that it is mounted and reachable"


def _free(where: str) -> str:
    folder = next((path for path in Path(where).parents if path.is_dir()), None)
    return f" ({shutil.disk_usage(folder).free >> 20} MiB left)" if folder else ""


def redacted(message: str, secrets: Collection[str]) -> str:
    """Return a message without the secrets in it."""
    for secret in sorted(secrets, key=len, reverse=True):
        message = message.replace(secret, "***")
    return message
