"""Data outside the store, file by file, for a job that may not open it itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from airflow_dla.artifacts.faults import explained
from airflow_dla.artifacts.pins import check_pin, file_pin
from airflow_dla.artifacts.places import opened
from airflow_dla.artifacts.streams import CHUNK
from airflow_dla.errors import NotFound
from airflow_dla.specs import UriRef


class Outside:
    """The files at an outside address, as they are now.

    Parameters
    ----------
    ref : `UriRef`
        Its pin, if it has one, is checked.

    Attributes
    ----------
    sizes : dict
        Bytes of each file by its path below the address; None where the server does not tell.
    key : str
        Tells these files from others that may be there later.

    Raises
    ------
    NotFound, CorruptArtifact
        If nothing is there, or not what was pinned.
    StoreUnavailable
        If nobody answers.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a.csv").write_bytes(b"1,2")
    ...     found = Outside(UriRef(uri=f"file://{folder}", mode="copy"))
    ...     print(found.sizes, list(found.pieces("a.csv")))
    {'a.csv': 3} [b'1,2']
    """

    def __init__(self, ref: UriRef) -> None:
        if ref.pin:
            check_pin(ref)
        self._uri = ref.uri
        self._fs, path = opened(ref.uri, {}, where="input")
        top = path.rstrip("/")
        with explained(f"look at input {ref.uri}"):
            found: dict[str, Any] = self._found(path)
        self._paths = {at.removeprefix(top).lstrip("/") or top.rpartition("/")[2]: at for at in found}
        self.sizes: dict[str, int | None] = {name: found[at].get("size") for name, at in self._paths.items()}
        seen = sorted((name, file_pin(found[at])) for name, at in self._paths.items())
        self.key = hashlib.sha256(json.dumps([ref.uri, seen], sort_keys=True).encode()).hexdigest()

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the bytes of one file.

        Raises
        ------
        StoreUnavailable
            If its server breaks off.
        """
        doing = f"read input {self._uri}"
        with explained(doing):
            source = self._fs.open(self._paths[path], "rb")
        with source:
            while piece := self._read(source, doing):
                yield piece

    def _found(self, path: str) -> dict[str, Any]:
        try:
            if self._fs.isdir(path):
                return dict(self._fs.find(path, detail=True))
            return {path.rstrip("/"): self._fs.info(path)}
        except FileNotFoundError:
            raise NotFound(f"input {self._uri} does not exist; correct the address, or run what writes it first") from None

    def _read(self, source: Any, doing: str) -> bytes:
        with explained(doing):
            return bytes(source.read(CHUNK))
