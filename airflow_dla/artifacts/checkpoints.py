"""Checkpoints: artifacts that a job finds by its id, through numbered pointer files."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, ClassVar, Final

from airflow_dla.artifacts.backend import Backend
from airflow_dla.artifacts.manifest import MANIFEST_PROTOCOL
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import ArtifactRef, Spec
from airflow_dla.specs.references import digest
from airflow_dla.specs.spec import spec_field
from airflow_dla.specs.values import identifier, integer, natural

#: The newest, and one more in case it is damaged.
KEPT: Final = 2

_POINTER = re.compile(r"(\d{8})\.json")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pointer(Spec):
    """What a pointer file says: which artifact a checkpoint is."""

    called: ClassVar[str] = "checkpoint pointer"

    digest: str = spec_field(digest)
    size: int = spec_field(natural)
    protocol: int = spec_field(integer, default=MANIFEST_PROTOCOL, always=True)

    def to_bytes(self) -> bytes:
        """Write it as JSON."""
        return json.dumps(self.to_mapping(), sort_keys=True).encode()


class Checkpoints:
    """The pointers of all jobs of a store.

    Parameters
    ----------
    backend : `Backend`
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def add(self, job: str, reference: ArtifactRef) -> None:
        """Write the next pointer of a job, then remove those before the last two.

        Bytes that are the newest checkpoint already get no second pointer: it would push out the
        one to fall back to.
        """
        folder, known = _folder(job), self._names(job)
        if known and self._read(f"{folder}/{known[-1]}") == Pointer(digest=reference.digest, size=reference.size):
            return
        number = int(known[-1][:8]) + 1 if known else 1
        self._backend.write(f"{folder}/{number:08d}.json", Pointer(digest=reference.digest, size=reference.size).to_bytes())
        for name in known[: 1 - KEPT]:
            self._backend.delete(f"{folder}/{name}")

    def of(self, job: str) -> tuple[ArtifactRef, ...]:
        """Return the checkpoints of a job, newest first; torn pointers are left out."""
        pointers = [self._read(f"{_folder(job)}/{name}") for name in reversed(self._names(job))]
        return tuple(ArtifactRef(digest=found.digest, kind="checkpoint", size=found.size) for found in pointers if found)

    def drop(self, job: str) -> None:
        """Remove the pointers of a job; collection takes the bytes."""
        self._backend.delete(_folder(job))

    def jobs(self) -> list[str]:
        """Return the ids of the jobs that have checkpoints."""
        return self._backend.names("checkpoints")

    def newest_at(self, job: str) -> float:
        """Return when a job last saved, seconds since the epoch; 0 when it has no checkpoint."""
        try:
            return max((self._backend.modified(f"{_folder(job)}/{name}") for name in self._names(job)), default=0.0)
        except FileNotFoundError:
            return self._backend.clock()  # it is saving, or being dropped, right now

    def _names(self, job: str) -> list[str]:
        return [name for name in self._backend.names(_folder(job)) if _POINTER.fullmatch(name)]

    def _read(self, key: str) -> Pointer | None:
        try:
            raw: Any = json.loads(self._backend.read(key))
            return Pointer.from_mapping(raw)
        except (FileNotFoundError, ValueError, InvalidSpec):
            return None


def _folder(job: str) -> str:
    return f"checkpoints/{identifier(job, 'job id')}"
