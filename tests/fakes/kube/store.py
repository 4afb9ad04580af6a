"""Objects with their versions, as etcd and an API server keep them: what was, for those who watch."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fakes.kube.resources import RESOURCES, Refused, Resource, exists, not_found
from fakes.kube.selectors import Match

Document = dict[str, Any]
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object.

    Parameters
    ----------
    version : int
        After it.
    key : tuple
        Plural, namespace, name.
    old, new : mapping or None
        Before and after; None where there was none.
    """

    version: int
    key: Key
    old: Document | None
    new: Document | None

    def told(self, match: Match) -> tuple[str, Document] | None:
        """Return what a watch with a selector tells of it."""
        before = self.old is not None and match(self.old)
        after = self.new is not None and match(self.new)
        if after and self.new is not None:
            return ("MODIFIED" if before else "ADDED"), self.new
        if before and self.old is not None:
            last = self.new or self.old
            return "DELETED", {**last, "metadata": {**last["metadata"], "resourceVersion": str(self.version)}}
        return None


class Store:
    """All objects of a cluster. Documents that come out are not to be changed; those that go in are copied."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 1000
        self.compacted = self.version
        self._objects: dict[Key, Document] = {}
        self._history: list[Change] = []
        self._first = 0

    # --- objects ---

    def get(self, plural: str, namespace: str, name: str) -> Document | None:
        """Return an object as it is, or None."""
        return self._objects.get((plural, namespace, name))

    def all(self, plural: str, namespace: str = "", match: Match = lambda _: True) -> list[Document]:
        """Return the objects of a kind, by name; of every namespace where it is empty."""
        with self.lock:
            found = sorted(key for key in self._objects if key[0] == plural and namespace in ("", key[1]))
            return [self._objects[key] for key in found if match(self._objects[key])]

    def owned(self, uid: str) -> list[Key]:
        """Return what an object owns."""
        with self.lock:
            return [key for key, document in self._objects.items() if uid in owners(document)]

    def has_uid(self, uid: str) -> bool:
        """Whether an object of this identity is there."""
        with self.lock:
            return any(document["metadata"]["uid"] == uid for document in self._objects.values())

    def create(self, resource: Resource, namespace: str, document: Mapping[str, Any]) -> Document:
        """Make an object; return it.

        Raises
        ------
        Refused
            If there is one of that name.
        """
        with self.lock:
            made = _copied(document)
            metadata = made.setdefault("metadata", {})
            if not metadata.get("name") and metadata.get("generateName"):
                metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
            key = (resource.plural, namespace, metadata["name"])
            if key in self._objects:
                raise exists(resource, metadata["name"])
            if resource.namespaced:
                metadata["namespace"] = namespace
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
            made |= {"apiVersion": resource.api_version, "kind": resource.kind}
            return self._write(key, made)

    def change(self, plural: str, namespace: str, name: str, how: Callable[[Document], Any]) -> Document:
        """Change an object by a function of a copy of it, which may return another; return what became of it.

        One without finalizers that is to be deleted goes when it is changed.

        Raises
        ------
        Refused
            If there is none.
        """
        with self.lock:
            key = (plural, namespace, name)
            old = self._objects.get(key)
            if old is None:
                raise not_found(RESOURCES[plural], name)
            draft = _copied(old)
            new = how(draft) or draft
            if new == old:
                return old
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
            written = self._write(key, new)
            metadata = written["metadata"]
            if "deletionTimestamp" in metadata and not metadata.get("finalizers") and not metadata.get("deletionGracePeriodSeconds"):
                self.remove(plural, namespace, name)
            return written

    def remove(self, plural: str, namespace: str, name: str) -> Document | None:
        """Take an object away; return the last of it."""
        with self.lock:
            old = self._objects.pop((plural, namespace, name), None)
            if old is not None:
                self._tell((plural, namespace, name), old, None)
            return old

    # --- watching ---

    def start(self, version: int | None) -> int:
        """Return where a reader stands who knows what there was at a version; at now where it is None.

        Raises
        ------
        Refused
            If what came after it is forgotten.
        """
        with self.lock:
            if version is None:
                return self._first + len(self._history)
            if version < self.compacted:
                raise Refused(410, "Expired", f"too old resource version: {version} ({self.compacted})")
            return self._first + sum(change.version <= version for change in self._history)

    def read(self, at: int, wait_s: float = 0.0) -> tuple[list[Change], int]:
        """Return the changes that a reader has not seen, and where it stands then; wait for the first of them.

        Raises
        ------
        Refused
            If some of them are forgotten.
        """
        with self.lock:
            if wait_s and at == self._first + len(self._history):
                self.changed.wait(wait_s)
            if at < self._first:
                raise Refused(410, "Expired", f"too old resource version: {at} ({self.compacted})")
            return self._history[at - self._first :], self._first + len(self._history)

    def compact(self) -> None:
        """Forget what was, as etcd does after a while: what reads older versions gets 410, who has seen all reads on."""
        with self.lock:
            self.compacted = self.version
            self._first += len(self._history)
            self._history = []

    def bump(self) -> None:
        """Count the version up, as changes to other objects do."""
        with self.lock:
            self.version += 1

    def _write(self, key: Key, document: Document) -> Document:
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        old, self._objects[key] = self._objects.get(key), document
        self._history.append(Change(self.version, key, old, document))
        self.changed.notify_all()
        return document

    def _tell(self, key: Key, old: Document, new: Document | None) -> None:
        self.version += 1
        self._history.append(Change(self.version, key, old, new))
        self.changed.notify_all()


def owners(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the references to what owns an object, by its identity."""
    return {found["uid"]: found for found in document["metadata"].get("ownerReferences") or []}


def now() -> str:
    """Return the time as documents have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_now() -> str:
    """Return the time with microseconds, as some fields have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(stamp: str) -> float:
    """Return seconds since the epoch of a document's time."""
    return datetime.fromisoformat(stamp).timestamp()


def _copied(document: Mapping[str, Any]) -> Document:
    return dict(json.loads(json.dumps(document)))
