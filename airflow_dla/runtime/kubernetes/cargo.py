"""The files of attempts, carried beside those who follow them.

A pod reaches no store by itself: its helpers say what they lack and what they offer, and
whoever follows the attempt carries it (see `freight`), in a few threads of his own. It may
be done again, by anybody, at any time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final, NoReturn

from airflow_dla.errors import NotFound, NotReady, PlaceUnavailable, StoreUnavailable
from airflow_dla.runtime.facts import Staged
from airflow_dla.runtime.kubernetes.facts import FETCH, MATE, Pod
from airflow_dla.runtime.kubernetes.freight import Freight
from airflow_dla.runtime.kubernetes.pods import Needs
from airflow_dla.runtime.kubernetes.porters import Porters
from airflow_dla.runtime.kubernetes.told import Told
from airflow_dla.specs import Grant, JobFile

#: Seconds between two looks at what a running pod offers, and after a job's end.
_CALM_S: Final = 10.0
_SOON_S: Final = 0.3
_REMEMBERED: Final = 4096


class Cargo:
    """Carries what the pods of one namespace lack and offer.

    Parameters
    ----------
    freight : `Freight`
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(self, freight: Freight, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._freight = freight
        self._clock = clock
        self._porters = Porters()
        self._looked: dict[tuple[str, str], tuple[float, Told]] = {}
        self._ended: set[str] = set()
        self._killed: set[str] = set()

    def check(self, job: JobFile) -> None:
        """Check that the store will take what a job publishes: better now than hours later.

        Raises
        ------
        NotReady
            While it does not.
        """
        try:
            self._freight.check(job)
        except StoreUnavailable as error:
            raise NotReady(f"the store must take its outputs before it begins: {error}") from error

    def bring(self, job: JobFile, pod: Pod) -> NoReturn:
        """Bring what a job needs before it begins.

        Raises
        ------
        NotReady
            Always: the pod says when it has all.
        """
        told = self._told(pod, FETCH, _SOON_S)
        what = ", ".join([*job.inputs, *(["code"] if job.code else [])]) or "what it had saved"
        if told is not None and told.wants:
            try:
                if self._porters.carried(f"{pod.uid} in", lambda: self._freight.bring(pod.name, job, told)):
                    self._looked.pop((pod.uid, FETCH), None)
            except (PlaceUnavailable, StoreUnavailable) as error:
                raise NotReady(f"bringing {what} to pod {pod.name}, again: {error}") from error
        raise NotReady(f"bringing {what} to pod {pod.name}")

    def look(self, job: JobFile, pod: Pod) -> None:
        """Take the checkpoints that a running job offers, now and then; of a pod that is deleted the last, as soon as it has ended."""
        if not _has_mate(job, pod):
            return
        told = self._told(pod, MATE, _CALM_S if pod.deleted_at is None else _SOON_S)
        if told is None:
            return
        # How any other ended its node will say: the mate knows first that it has, and the watch may be far behind.
        if told.alone and told.published is None and pod.deleted_at is not None:
            self._tell_ended(pod, succeeded=False, hard=False)
        if told.offers:
            self._take(job, pod, told)

    def finish(self, job: JobFile, pod: Pod | None, *, succeeded: bool, hard: bool) -> Staged | None:
        """Have outputs published, or the last checkpoint kept; None until that is done."""
        if pod is None or not Needs.of(job).mate:
            return Staged()
        # Of one that has ended the last word counts, not what it said before.
        told = self._told(pod, MATE, _SOON_S if _has_mate(job, pod) else 0.0)
        if not _has_mate(job, pod) or (told is not None and told.published is not None):
            self._leave(job, pod)
            return Staged() if told is None or told.published is None else told.published
        self._tell_ended(pod, succeeded=succeeded, hard=hard)
        if told is not None and told.offers:
            self._take(job, pod, told)
        return None

    def failure(self, pod: Pod) -> tuple[str, str] | None:
        """Return reason and message of what ended fetching in a pod; None where it says nothing of that."""
        told = self._told(pod, FETCH, 0.0)
        return None if told is None else told.error

    def tell_grant(self, job: JobFile, pod: Pod, grant: Grant) -> None:
        """Show a job what it may use now."""
        if _has_mate(job, pod):
            self._freight.tell(pod.name, MATE, "grant", grant.to_mapping())

    def end(self, pod: Pod) -> None:
        """Have a program ended whose time is over, and that its node would leave longer; nothing where nobody of ours can."""
        if pod.uid not in self._killed and _stays(pod):
            with contextlib.suppress(PlaceUnavailable):
                self._freight.tell(pod.name, MATE, "end", {})
                self._killed.add(pod.uid)

    def abandon(self, pod: Pod, *, late: bool) -> None:
        """Let the mate of an attempt go that nobody follows any more, once its program has ended; end that if it is late."""
        if not _stays(pod):
            return
        told = self._told(pod, MATE, _SOON_S)
        if pod.main.ended or (told is not None and told.alone):
            self._dismiss(pod)
        elif late:
            self.end(pod)

    def _dismiss(self, pod: Pod) -> None:
        with contextlib.suppress(PlaceUnavailable):
            self._freight.tell(pod.name, MATE, "leave", {})

    def _tell_ended(self, pod: Pod, *, succeeded: bool, hard: bool) -> None:
        if pod.uid not in self._ended:
            # A mate with nothing to publish ends at once, and the answer with it; what it said is read next time.
            with contextlib.suppress(PlaceUnavailable):
                self._freight.tell(pod.name, MATE, "ended", {"succeeded": succeeded, "hard": hard})
                self._ended.add(pod.uid)

    def _take(self, job: JobFile, pod: Pod, told: Told) -> None:
        with contextlib.suppress(PlaceUnavailable, StoreUnavailable):  # it is offered until it is taken
            if self._porters.carried(f"{pod.uid} out", lambda: self._freight.take(pod.name, job, told)):
                self._looked.pop((pod.uid, MATE), None)

    def _leave(self, job: JobFile, pod: Pod) -> None:
        """Let the mate go: it would wait, and hold what was granted, until its time is over."""
        self._looked.pop((pod.uid, MATE), None)
        self._ended.discard(pod.uid)
        self._killed.discard(pod.uid)
        if _has_mate(job, pod):
            self._dismiss(pod)

    def _told(self, pod: Pod, container: str, max_age_s: float) -> Told | None:
        """Return what a pod's helper said last; None where it is gone without a word."""
        now = self._clock()
        known = self._looked.get((pod.uid, container))
        if known is not None and now - known[0] < max_age_s:
            return known[1]
        try:
            told = self._freight.look(pod.name, container)
        except NotFound:
            return None if known is None else known[1]
        if told is not None:
            self._looked[pod.uid, container] = (now, told)
        while len(self._looked) > _REMEMBERED:
            self._looked.pop(next(iter(self._looked)))
        return told


def _has_mate(job: JobFile, pod: Pod) -> bool:
    """Whether somebody of ours is there to be spoken to."""
    return Needs.of(job).mate and _stays(pod)


def _stays(pod: Pod) -> bool:
    mate = pod.containers.get(MATE)
    return not pod.over and mate is not None and mate.state == "running"
