"""What a pod is to get: inputs, code and checkpoint as files by path, size and hash."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from airflow_dla.errors import CorruptArtifact, DlaError, InvalidSpec, NotFound, PlaceUnavailable, StoreUnavailable
from airflow_dla.runtime.kubernetes.told import CHECKPOINT
from airflow_dla.specs import ArtifactRef, JobFile, ModelRef, UriRef
from airflow_dla.specs.references import Reference

CODE: Final = "code"


class Entry(Protocol):
    """A file of an artifact."""

    @property
    def path(self) -> str:
        """Return its path in the artifact."""

    def to_mapping(self) -> dict[str, Any]:
        """Return ``path``, ``size``, ``sha256`` and ``executable``."""


class Manifest(Protocol):
    """What an artifact holds."""

    @property
    def files(self) -> Sequence[Any]:
        """Return its files."""


class Files(Protocol):
    """The files at an outside address."""

    sizes: dict[str, int | None]
    key: str

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the bytes of one."""


class Goods(Protocol):
    """What freight needs of an artifact store: ``airflow_dla.artifacts.Exchange``."""

    def check(self) -> None:
        """Check that it takes and gives bytes."""

    def manifest(self, digest: str) -> Any:
        """Return what an artifact holds."""

    def checkpoints(self, job: str) -> tuple[ArtifactRef, ...]:
        """Return the checkpoints of a job, newest first."""

    def pieces(self, digest: str, entry: Any) -> Iterator[bytes]:
        """Yield the bytes of a file, verified when the last has been taken."""

    def outside(self, ref: UriRef) -> Files:
        """Return the files at an outside address."""

    def signed_reads(self, digest: str) -> Mapping[str, Any]:
        """Return an address for each file of an artifact, none where it cannot sign."""

    def draft(self, *, kind: str, files: Sequence[Mapping[str, Any]]) -> Any:
        """Return the manifest of what is to be published."""

    def published(self, manifest: Any) -> ArtifactRef | None:
        """Return the reference of what is published already."""

    def missing(self, manifest: Any) -> Sequence[Any]:
        """Return the files that `receive` needs."""

    def signed_writes(self, manifest: Any) -> Mapping[str, Any]:
        """Return an address for each file that is missing, none where it cannot sign."""

    def receive(self, manifest: Any, arriving: Iterable[tuple[str, Iterable[bytes]]]) -> ArtifactRef:
        """Publish, with the files that come."""

    def keep_checkpoint(self, job: str, reference: ArtifactRef) -> None:
        """Make what is published the newest checkpoint of a job."""


def restores(job: JobFile) -> bool:
    """Return whether there may be a checkpoint, by the rule of ``agents.protocol``."""
    return bool(job.part is not None and job.part.node_rank) or job.attempt.rpartition(".")[2] != "1"


def needs_plan(job: JobFile) -> bool:
    """Return whether a pod waits to be told what is to come, by the rule of ``agents.relay``."""
    return bool(job.inputs or job.code is not None or restores(job))


class Bringing:
    """What one attempt is to get, and the bytes of it.

    Parameters
    ----------
    store : `Goods`
    job : `JobFile`
    damaged : iterable of str
        Checkpoints that cannot be restored.
    """

    def __init__(self, store: Goods, job: JobFile, *, damaged: Iterable[str] = ()) -> None:
        self._store = store
        self._job = job
        self._damaged = set(damaged)
        self._digests: dict[str, str] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        self._outside: dict[str, Files] = {}
        self._shown: dict[str, str] = {}

    def plan(self, *, direct: bool) -> dict[str, Any]:
        """Return what is to come, by item.

        Parameters
        ----------
        direct : bool
            Whether files get signed addresses.

        Raises
        ------
        DlaError
            Naming the input that cannot be had.
        """
        items: dict[str, dict[str, Any] | None] = {
            f"in-{name}": self._input(name, ref, direct=direct) for name, ref in self._job.inputs.items()
        }
        if self._job.code is not None:
            with _named(CODE):
                items[CODE] = self._artifact(CODE, CODE, CODE, self._job.code.digest, direct=direct, writable=True)
        items[CHECKPOINT] = self._checkpoint(direct=direct) if restores(self._job) else None
        return {name: item for name, item in items.items() if item is not None}

    def pieces(self, item: str, path: str) -> Iterator[bytes]:
        """Yield the bytes of a file of the plan."""
        if item in self._outside:
            return self._outside[item].pieces(path)
        return self._store.pieces(self._digests[item], self._entries[item][path])

    def without(self, item: str, error: DlaError) -> bool:
        """Leave out a checkpoint that turned out to be damaged, and return False; raise what is wrong with anything else."""
        if item == CHECKPOINT and isinstance(error, (CorruptArtifact, NotFound)):
            self._damaged.add(self._digests[item])
            return False
        with _named(self._shown[item]):
            raise error

    def _input(self, name: str, ref: Reference, *, direct: bool) -> dict[str, Any] | None:
        item, shown = f"in-{name}", f"input {name!r}"
        with _named(shown):
            if isinstance(ref, UriRef):
                return self._outsider(item, shown, f"in/{name}", ref)
            if ref.digest:
                return self._artifact(item, shown, f"in/{name}", ref.digest, direct=direct)
            if isinstance(ref, ModelRef) and ref.missing != "skip":
                raise InvalidSpec(f"it names {ref.model!r}, which was not resolved to an artifact before the launch")
        return None

    def _outsider(self, item: str, shown: str, target: str, ref: UriRef) -> dict[str, Any] | None:
        """Return what is copied; of what the job reads by itself only see that it is what was pinned."""
        if ref.mode == "copy" or ref.pin:
            self._outside[item] = self._store.outside(ref)
        if ref.mode != "copy":
            return None
        self._shown[item], found = shown, self._outside[item]
        files = [{"path": path, "size": size, "sha256": None} for path, size in sorted(found.sizes.items())]
        return {"name": shown, "target": target, "key": found.key, "writable": False, "files": files}

    def _artifact(self, item: str, shown: str, target: str, digest: str, *, direct: bool, writable: bool = False) -> dict[str, Any]:
        files = self._store.manifest(digest).files
        links = self._store.signed_reads(digest) if direct else {}
        self._shown[item], self._digests[item] = shown, digest
        self._entries[item] = {entry.path: entry for entry in files}
        entries = [{**entry.to_mapping(), **({"get": links[entry.path]} if entry.path in links else {})} for entry in files]
        return {"name": shown, "target": target, "key": digest, "writable": writable, "files": entries}

    def _checkpoint(self, *, direct: bool) -> dict[str, Any] | None:
        """Return the newest checkpoint that is not known to be damaged."""
        for reference in self._store.checkpoints(self._job.checkpoint):
            if reference.digest not in self._damaged:
                with contextlib.suppress(NotFound, CorruptArtifact):
                    return self._artifact(CHECKPOINT, CHECKPOINT, CHECKPOINT, reference.digest, direct=direct, writable=True)
        return None


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Say of what is wrong with the job what it is wrong with; a store out of reach is nobody's fault."""
    try:
        yield
    except (StoreUnavailable, PlaceUnavailable):
        raise
    except DlaError as error:
        raise InvalidSpec(f"{what}: {error}") from error
