"""The keeper's way to the artifact store: inputs, code and checkpoints in, outputs and checkpoints out.

The only module of this package that imports others of ``airflow_dla``; it runs beside
the user's program, never inside it.
"""

from __future__ import annotations

import functools
import os
import shutil
import stat
import sys
import time
from pathlib import Path
from typing import Any, Callable, Collection, Dict, Mapping, TypeVar

from .offers import kind_of, settle
from .protocol import JobError, JobFile, JobFolder

try:
    from airflow_dla.artifacts import Store, check_pin, manifest_of
    from airflow_dla.errors import DlaError, StoreUnavailable
    from airflow_dla.specs import ArtifactRef, UriRef
except ModuleNotFoundError as missing:
    if missing.name != "airflow_dla":
        raise
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from airflow_dla.artifacts import Store, check_pin, manifest_of
    from airflow_dla.errors import DlaError, StoreUnavailable
    from airflow_dla.specs import ArtifactRef, UriRef

_T = TypeVar("_T")
#: Seconds to wait for a store that is out of reach: a result of hours is worth minutes.
FETCH_PATIENCE_S = 15.0
PUBLISH_PATIENCE_S = 120.0


class Staging:
    """Fetches and publishes for one attempt.

    Parameters
    ----------
    job : `JobFile`
    folder : `JobFolder`
    options : mapping
        What the store needs besides its URL, secrets among it.
    mounted : collection of str, optional
        For a job in a container: inputs that it sees straight from the store, which are
        only verified. The others become plain files, since a link to the store leads
        nowhere in there.
    patience : float
        Factor of the times that a store out of reach is waited for.
    publishes : bool
        Whether anything goes to the store; else outputs are only measured.
    """

    def __init__(
        self, job: JobFile, folder: JobFolder, options: Mapping[str, Any], *, mounted: Collection[str] | None = None, patience: float = 1.0,
        publishes: bool = True,
    ) -> None:  # fmt: skip
        self._publishes = publishes
        self._job = job
        self._folder = folder
        self._mounted = mounted
        self._patience = patience
        self._store = self._told("store", lambda: Store(job.store, options=dict(options) or None))

    def fetch(self, *, restore: bool) -> None:
        """Put inputs, code and the newest checkpoint into the job's folder, every byte verified.

        Each appears whole or not at all; what an interrupted call left whole is not fetched again.

        Parameters
        ----------
        restore : bool
            Whether there may be a checkpoint: the first attempt of a job has none.

        Raises
        ------
        JobError
            Naming the input that is missing, damaged or changed; or if the store could not
            take the outputs later.
        """
        shutil.rmtree(self._arriving, ignore_errors=True)
        if self._job.published and self._publishes:
            self._told("outputs", self._store.check)
        for name, ref in self._job.inputs.items():
            self._told(f"input {name!r}", functools.partial(self._fetch_input, name, ref))
        if self._job.code is not None:
            digest = self._job.code["digest"]
            self._told("code", lambda: self._fetch_code(digest))
        if restore:
            self._told("checkpoint", self._restore)
        shutil.rmtree(self._arriving, ignore_errors=True)

    def publish(self) -> dict[str, Any]:
        """Publish every output; return the references by name."""
        found: Dict[str, Any] = {}
        for name in self._job.published:
            found[name] = self._told(f"output {name!r}", functools.partial(self._publish, name), PUBLISH_PATIENCE_S).to_mapping()
        return found

    def _publish(self, name: str) -> ArtifactRef:
        self.settle(name)
        if not self._publishes:
            return manifest_of(self._folder.output(name), kind=kind_of(name)).reference
        return self._store.publish(self._folder.output(name), kind=kind_of(name))

    def settle(self, name: str) -> None:
        """Make an output the folder of what was written; a script may have put one file in its place."""
        settle(self._folder, name)

    def save_checkpoint(self, folder: Path) -> None:
        """Keep a folder as the job's newest checkpoint; only the first member of a distributed job does."""
        if self._job.leads and self._publishes:
            self._told("checkpoint", lambda: self._store.save_checkpoint(self._job.checkpoint, folder))

    @property
    def _arriving(self) -> Path:
        return self._folder.path / ".arriving"

    def _fetch_input(self, name: str, ref: Mapping[str, Any]) -> None:
        if ref.get("dla") == "uri":
            self._fetch_uri(UriRef.from_mapping(ref), self._folder.input(name))
        elif ref.get("digest") and name in (self._mounted or ()):
            self._store.verify(ref["digest"])
        elif ref.get("digest"):
            self._put(self._folder.input(name), lambda folder: self._store.fetch(ref["digest"], folder))
        elif ref.get("missing") != "skip":
            raise JobError(f"input {name!r} names {ref.get('model')!r}, which was not resolved to an artifact before the launch")

    def _fetch_uri(self, ref: UriRef, target: Path) -> None:
        if ref.pin:
            check_pin(ref)
        if ref.mode == "copy":
            self._put(target, lambda folder: _download(ref.uri, folder))

    def _fetch_code(self, digest: str) -> None:
        self._put(self._folder.code, lambda folder: self._store.fetch(digest, folder), writable=True)

    def _restore(self) -> None:
        """Put the newest checkpoint that is whole in place."""
        self._put(self._folder.checkpoint, lambda folder: self._store.fetch_checkpoint(self._job.checkpoint, folder), writable=True)

    def _put(self, target: Path, fill: Callable[[Path], object], *, writable: bool = False) -> None:
        """Fill a folder that appears in one step, unless it is there already."""
        if target.is_dir() and any(target.iterdir()):
            return
        folder = self._arriving / target.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True)
        fill(folder)
        if not folder.exists():
            return  # there is no checkpoint yet
        if writable or self._mounted is not None:
            _make_plain(folder, writable=writable)
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)

    def _told(self, what: str, call: Callable[[], _T], patience_s: float = FETCH_PATIENCE_S) -> _T:
        """Call the store, again while it is out of reach; errors name what was wanted."""
        deadline = time.monotonic() + patience_s * self._patience
        delay_s = 0.25
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                if time.monotonic() + delay_s > deadline:
                    raise JobError(f"{what}: {error}", "lost") from error
            except DlaError as error:
                raise JobError(f"{what}: {error}") from error
            time.sleep(delay_s)
            delay_s = min(2 * delay_s, 10.0)


def _download(uri: str, target: Path) -> None:
    import fsspec  # noqa: PLC0415 - costs 50 ms that few jobs need

    filesystem, path = fsspec.core.url_to_fs(uri)
    target.mkdir(parents=True)
    if filesystem.isdir(path):
        filesystem.get(path.rstrip("/") + "/", f"{target}/", recursive=True)
    else:
        filesystem.get_file(path, str(target / path.rstrip("/").rpartition("/")[2]))


def _make_plain(folder: Path, *, writable: bool) -> None:
    """Turn what was fetched into plain files that every user may read; through a link the job would write into the store."""
    for top, _, names in os.walk(folder):
        Path(top).chmod(0o755)
        for path in (Path(top, name) for name in names):
            if path.is_symlink():
                _put_copy(path)
            mode = stat.S_IMODE(path.stat().st_mode) | 0o444
            path.chmod(mode | stat.S_IWUSR if writable else mode & ~0o222)


def _put_copy(link: Path) -> None:
    source = link.resolve()
    link.unlink()
    shutil.copy(source, link)
