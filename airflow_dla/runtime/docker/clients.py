"""Clients of one engine, each used by one thread at a time, and what it means when the engine does not answer."""

from __future__ import annotations

import contextlib
import functools
import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from airflow_dla.errors import DlaError, PlaceUnavailable
from airflow_dla.runtime.answers import Answer
from airflow_dla.runtime.silence import Silence, explained

#: What an engine says of itself rather than of the job that it was asked about.
_ITS_OWN_FAULT: Final = re.compile(r"context (deadline exceeded|canceled)|containerd\.sock|transport is closing|ttrpc: closed")
_GATEWAYS: Final = (502, 503, 504)
#: Characters that are kept of what is no JSON: a page of something that stands before an engine.
_SAID: Final = 500


class Clients:
    """The idle clients of one engine; borrowed, used, and given back, or dropped after a fault.

    Parameters
    ----------
    connect : callable
        Returns a new `docker.APIClient`.
    name : str
        Name of the place, for messages.
    address : str
        Where the engine listens, for messages; left out of them when empty.
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(
        self, connect: Callable[[], Any], *, name: str, address: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self.name = name
        self.faults = 0
        self._connect = connect
        self._address = address
        self._idle: deque[Any] = deque()
        self._silence = Silence(clock)

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Any]:
        """Lend a client to the calling thread.

        After an engine let somebody wait in vain, one caller tries again every few seconds
        and the others are told so at once: hundreds would fill every thread with waiting.

        Raises
        ------
        PlaceUnavailable
            If the engine does not answer, or not what an engine answers.
        """
        if silent := self._silence.reason():
            raise self.unavailable(silent)
        client = None
        try:
            client = self._taken() or self._connect()
            yield client
        except DlaError:
            self._give_back(client)
            raise
        except _faults() as fault:
            self._drop(client)
            self._silence.begin(_reason(fault), fault)
            raise self.unavailable(_reason(fault)) from fault
        except BaseException:
            self._drop(client)
            raise
        self._silence.end()
        self._give_back(client)

    def ask(self, method: str, path: str, *parts: str, timeout_s: float, **request: Any) -> Answer:
        """Send one request and read its whole answer.

        Parameters
        ----------
        method : str
            In lower case.
        path : str
            With a ``{0}`` for each of `parts`, which are quoted.
        timeout_s : float
            Seconds without a byte from the engine after which it counts as not answering.
        **request
            What `requests` takes: ``params``, ``data``, ``headers``.

        Raises
        ------
        PlaceUnavailable
            If the engine does not answer, or says that it is itself at fault.
        """
        with self.borrow() as client:
            response = send(client, method, path, *parts, timeout_s=timeout_s, **request)
            return self.checked(answer_of(response))

    def checked(self, answer: Answer) -> Answer:
        """Return an answer that is one.

        Raises
        ------
        PlaceUnavailable
            If it only says that the engine, or what stands before it, is out of order.
        """
        if answer.status in _GATEWAYS or (answer.status >= 500 and _is_own_fault(answer)):  # noqa: PLR2004 - HTTP's server errors
            raise self.unavailable(f"it said: {answer.words}")
        return answer

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read a good answer.

        Raises
        ------
        PlaceUnavailable
            If it lacks what an engine's has: something else listens there.
        """
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError) as fault:
            raise self.unavailable(f"its answer is not an engine's: {fault!r}; what listens there?") from fault

    def unavailable(self, reason: str) -> PlaceUnavailable:
        """Return the error of an engine that does not answer."""
        where = f" at {self._address}" if self._address else ""
        return PlaceUnavailable(f"place {self.name}: the Docker engine{where} does not answer: {reason}")

    def close(self) -> None:
        """Close every client that nobody uses now."""
        while (client := self._taken()) is not None:
            client.close()

    def _taken(self) -> Any:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return None

    def _give_back(self, client: Any) -> None:
        if client is not None:
            self._idle.append(client)

    def _drop(self, client: Any) -> None:
        self.faults += 1
        if client is not None:
            client.close()
        self.close()  # the others' connections are as old


def send(client: Any, method: str, path: str, *parts: str, timeout_s: float, **request: Any) -> Any:
    """Send one request by a client; return the response of `requests`, its body as it is."""
    headers = {"Accept-Encoding": "identity", **request.pop("headers", {})}
    method_of = getattr(client, method if method == "head" else f"_{method}")
    return method_of(client._url(path, *parts), timeout=timeout_s, headers=headers, **request)  # noqa: SLF001 - docker-py has no public raw request


def answer_of(response: Any) -> Answer:
    """Read a whole response and close it.

    Raises
    ------
    OSError
        If it says that it is JSON and is not.
    """
    is_json = "json" in response.headers.get("Content-Type", "") and response.content.strip()
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, response.json() if is_json else response.text[:_SAID].strip() or None, headers)


def _is_own_fault(answer: Answer) -> bool:
    return answer.document is None or bool(_ITS_OWN_FAULT.search(answer.words))


@functools.cache
def _faults() -> tuple[type[Exception], ...]:
    """Return what a client raises when it gets no good answer; `requests` derives its own from `OSError`."""
    from http.client import HTTPException  # noqa: PLC0415 - loaded with the optional client

    from docker.errors import DockerException  # noqa: PLC0415 - an optional dependency
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with it

    return (OSError, HTTPException, HTTPError, DockerException, ValueError)


def _reason(fault: BaseException) -> str:
    return explained(fault, _HINTS, "is dockerd running there, and does it speak this protocol?")


_HINTS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (ssl.SSLError, "its certificate or ours is not accepted: compare the place's tls with dockerd's --tlscacert, --tlscert and --tlskey"),
    (PermissionError, "this user may not open its socket: add it to the socket's group (usually docker)"),
    (FileNotFoundError, "there is no such socket: is dockerd running, is the address right?"),
    (TimeoutError, "it took too long: is dockerd stopped or its host overloaded?"),
    (ConnectionError, "is dockerd running, may this user open its socket?"),
)
