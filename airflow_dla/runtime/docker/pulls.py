"""Images fetched beside the callers, who ask again until they are there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_dla.errors import LaunchRefused, NotReady, PlaceUnavailable
from airflow_dla.runtime.docker.clients import Clients

_REMEMBERED_S: Final = 60.0
_MB: Final = 10**6


@dataclass(slots=True)
class _Pull:
    """One image on its way: where each layer is, and how it ended."""

    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    ended_at: float | None = None
    failure: str = ""
    unavailable: bool = False


class Pulls:
    """The images that this process has an engine fetch, one thread each.

    The engine fetches an image once, however many processes ask; what one of them has
    begun goes on when that process dies.

    Parameters
    ----------
    clients : `Clients`
        Of the engine; logged in where its registries want that.
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(self, clients: Clients, *, clock: Callable[[], float]) -> None:
        self._clients = clients
        self._clock = clock
        self._pulls: dict[str, _Pull] = {}
        self._lock = threading.Lock()

    def ask(self, image: str) -> None:
        """Fetch an image; return once it was fetched.

        Raises
        ------
        NotReady
            While it is on its way; says how far it is.
        LaunchRefused
            If the registry does not give it; everybody who asks within a minute is told
            so, then it is tried again.
        PlaceUnavailable
            If the engine did not answer.
        """
        with self._lock:
            pull = self._current(image)
            if pull.ended_at is not None and (pull.unavailable or not pull.failure):
                del self._pulls[image]
        if pull.ended_at is None:
            raise NotReady(_progress(image, list(pull.layers.values())))
        if pull.unavailable:
            raise PlaceUnavailable(pull.failure)
        if pull.failure:
            raise LaunchRefused(f"place {self._clients.name}: image {image!r} cannot be pulled: {pull.failure}; {_hint(pull.failure)}")

    def _current(self, image: str) -> _Pull:
        pull = self._pulls.get(image)
        if pull is None or (pull.ended_at is not None and self._clock() > pull.ended_at + _REMEMBERED_S):
            pull = self._pulls[image] = _Pull()
            threading.Thread(target=self._fetch, args=(image, pull), name=f"pull {image}", daemon=True).start()
        return pull

    def _fetch(self, image: str, pull: _Pull) -> None:
        try:
            pull.failure = self._fetched(image, pull)
        except PlaceUnavailable as error:
            pull.failure, pull.unavailable = str(error), True
        except Exception as error:  # noqa: BLE001 - whoever asks next is told; nobody waits for this thread
            pull.failure = f"{type(error).__name__}: {error}"
        pull.ended_at = self._clock()

    def _fetched(self, image: str, pull: _Pull) -> str:
        """Follow the engine's report; return what went wrong, empty if nothing did."""
        from docker.errors import APIError  # noqa: PLC0415 - an optional dependency

        with self._clients.borrow() as client:
            try:
                return _followed(client.pull(image, stream=True, decode=True), pull)
            except APIError as error:
                return str(error.explanation or error)


def _followed(report: Iterable[Mapping[str, Any]], pull: _Pull) -> str:
    for line in report:
        if "error" in line:
            return str(line["error"])
        detail = line.get("progressDetail") or {}
        if line.get("status") == "Downloading" and detail.get("total"):
            pull.layers = {**pull.layers, str(line.get("id")): (int(detail.get("current", 0)), int(detail["total"]))}
        elif line.get("status") in ("Download complete", "Pull complete"):
            _, total = pull.layers.get(str(line.get("id")), (0, 0))
            pull.layers = {**pull.layers, str(line.get("id")): (total, total)}
    return ""


def _progress(image: str, layers: list[tuple[int, int]]) -> str:
    done, total = (sum(layer[i] for layer in layers) for i in (0, 1))
    return f"image {image}: pulling, {done // _MB} of {-(-total // _MB)} MB" if total else f"image {image}: pulling"


def _hint(failure: str) -> str:
    """Say what would do about a registry's refusal."""
    said = failure.lower()
    if any(word in said for word in ("denied", "unauthorized", "authentication", "credentials", "forbidden")):
        return "is its name right, and do the place's credentials (docker login, or the registry's connection) allow it?"
    if any(word in said for word in ("not found", "manifest unknown", "does not exist", "invalid reference")):
        return "is its name right, tag included?"
    return "can the engine's host reach that registry? An image that is loaded there needs none"
