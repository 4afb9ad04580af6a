"""Data into and out of pods that hold no credentials: whoever follows a job has them, and brings and takes.

Where the store can sign addresses of single files the pod reads and writes those itself;
else, or where it cannot reach them, the bytes go through here, a piece at a time. Nothing is
remembered: what is to be done next stands in the pod's log, any follower can do it, and two
of them do no harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from airflow_dla.errors import CorruptArtifact, DlaError, PlaceUnavailable, StoreUnavailable
from airflow_dla.runtime.kubernetes import frames
from airflow_dla.runtime.kubernetes.bundle import CONTROL
from airflow_dla.runtime.kubernetes.door import NO_ROOM, OK, PASSED, Cluster, Door
from airflow_dla.runtime.kubernetes.goods import Bringing, Goods, needs_plan
from airflow_dla.runtime.kubernetes.told import CHECKPOINT, Told, read_told
from airflow_dla.specs import ArtifactRef, JobFile

#: Phases of an offer that wait for us.
_WAITING: Final = ("offered", "sent")


class Freight:
    """Brings inputs into pods, and takes outputs and checkpoints from them.

    Calls block, for as long as bytes go through us; several at once are fine.

    Parameters
    ----------
    cluster : `Cluster`
    store : `Goods`
        ``airflow_dla.artifacts.Exchange``
    direct : bool
        Whether pods may reach the store by signed addresses; they are then told no other way unless that fails.
    control, python : str
        The helpers' folder and interpreter in their containers.
    """

    def __init__(self, cluster: Cluster, store: Goods, *, direct: bool = True, control: str = CONTROL, python: str = "python3") -> None:
        self._cluster = cluster
        self._store = store
        self._direct = direct
        self._control = control
        self._python = python

    def check(self, job: JobFile) -> None:
        """Check that the store can take what a job will publish.

        Raises
        ------
        StoreUnavailable
            Better now than hours later.
        """
        if job.published:
            self._store.check()

    def look(self, pod: str, container: str) -> Told | None:
        """Return the last that a helper said, from the end of its log; None before it said anything."""
        return read_told(lambda lines: self._cluster.log(pod, container, tail_lines=lines))

    def tell(self, pod: str, container: str, word: str, value: Mapping[str, Any]) -> None:
        """Tell a helper a word: ``stop``, ``end``, ``ended``, ``grant``, ``container``, ``failed``, ``leave``; all but a grant count once.

        Raises
        ------
        PlaceUnavailable
            If it did not arrive.
        """
        self._door(pod, container).ask("put", word, json.dumps(value))

    def bring(self, pod: str, job: JobFile, told: Told, *, container: str = "fetch") -> None:
        """Bring what a pod wants: a plan of what is to come, and the bytes of what it cannot read itself.

        What cannot be had for a reason of the job ends the attempt: the pod is told why.

        Parameters
        ----------
        pod : str
        job : `JobFile`
        told : `Told`
            What it said last.
        container : str
            The helper that fetches.

        Raises
        ------
        StoreUnavailable, PlaceUnavailable
            What has arrived stays; the same call continues.
        """
        if not (told.wants and needs_plan(job)):
            return
        direct = self._direct and told.links in ("", "expired")
        bringing = Bringing(self._store, job, damaged=told.damaged)
        door = self._door(pod, container)
        try:
            while not _brought(door, bringing, direct=direct):
                pass
        except (StoreUnavailable, PlaceUnavailable):
            raise
        except DlaError as error:
            self.tell(pod, container, "failed", {"error": ["user_error", str(error)]})

    def take(self, pod: str, job: JobFile, told: Told, *, container: str = "mate") -> None:
        """Publish what a pod offers: answer with addresses first where there can be any, with references once it is published.

        Raises
        ------
        StoreUnavailable, PlaceUnavailable
            The same call continues.
        """
        for what, phase in told.offers.items():
            if phase in _WAITING:
                self._take(self._door(pod, container), job, what, direct=self._direct and phase == "offered")

    def _door(self, pod: str, container: str) -> Door:
        return Door(self._cluster, pod, container, control=self._control, python=self._python)

    def _take(self, door: Door, job: JobFile, what: str, *, direct: bool) -> None:
        offer = door.ask("offer", what)
        answer = {name: self._answer(door, what, name, offer, direct=direct) for name in offer["items"]}
        for item in answer.values():
            if what == CHECKPOINT and "reference" in item:
                self._store.keep_checkpoint(job.checkpoint, ArtifactRef.from_mapping(item["reference"]))
        if answer:
            door.ask("answer", what, value={"number": offer["number"], "items": answer})

    def _answer(self, door: Door, what: str, name: str, offer: Mapping[str, Any], *, direct: bool) -> dict[str, Any]:
        """Return an item's reference, addresses to write it to, or what is wrong with it."""
        try:
            manifest = self._store.draft(kind=offer["items"][name]["kind"], files=offer["items"][name]["files"])
            reference = self._store.published(manifest)
            if reference is None and direct and (links := self._store.signed_writes(manifest)):
                return {"put": links}
            if reference is None:
                paths = [entry.path for entry in self._store.missing(manifest)]
                with contextlib.closing(door.give(what, {"number": offer["number"], "item": name}, paths)) as given:
                    reference = self._store.receive(manifest, given)
        except (StoreUnavailable, PlaceUnavailable):
            raise
        except CorruptArtifact as error:
            raise PlaceUnavailable(f"{name}: {error}") from error
        except DlaError as error:
            return {"error": ["user_error", f"{name}: {error}"]}
        return {"reference": reference.to_mapping()}


def _brought(door: Door, bringing: Bringing, *, direct: bool) -> bool:
    """Say what is to come, and bring what must be brought; False when that has to be said anew."""
    answer = door.ask("plan", value=bringing.plan(direct=direct))
    if not answer["needs"]:
        return True
    sending = _Sending(bringing, answer["needs"])
    code, err = door.send("take", str(answer["number"]), stdin=sending.stream())
    if sending.error is not None:
        return bringing.without(sending.item, sending.error)
    if code not in (OK, NO_ROOM, PASSED):
        raise PlaceUnavailable(f"what was brought did not arrive whole (status {code}): {err}; it is brought again")
    return True  # or somebody else brings it, or the pod has said why it cannot take it


class _Sending:
    """Bytes on their way into a pod; a generator that raised would be taken for a way that broke, so it keeps its error.

    Parameters
    ----------
    bringing : `Bringing`
    needs : sequence of item and path

    Attributes
    ----------
    item : str
        The last that was begun.
    error : DlaError or None
        Why it could not be read.
    """

    def __init__(self, bringing: Bringing, needs: Sequence[tuple[str, str]]) -> None:
        self._bringing = bringing
        self._needs = needs
        self.item = ""
        self.error: DlaError | None = None

    def stream(self) -> Iterator[bytes]:
        """Yield the frames of all files that are needed, or what makes the reader give up."""
        try:
            for item, path in self._needs:
                self.item = item
                yield frames.framed_json([item, path])
                yield from self._file(item, path)
            yield frames.framed(frames.END)
        except DlaError as error:
            self.error = error
            yield frames.framed(frames.BROKEN)

    def _file(self, item: str, path: str) -> Iterator[bytes]:
        size, hasher = 0, hashlib.sha256()
        for piece in self._bringing.pieces(item, path):
            size += len(piece)
            hasher.update(piece)
            yield frames.framed(frames.DATA, piece)
        yield frames.framed_json({"size": size, "sha256": hasher.hexdigest()})
