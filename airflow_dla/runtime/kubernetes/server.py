"""Requests to one API server: who we are, what it means when it does not answer or asks us to wait."""

from __future__ import annotations

import functools
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from airflow_dla.errors import DlaError, PlaceUnavailable
from airflow_dla.runtime.answers import Answer
from airflow_dla.runtime.kubernetes.answers import THROTTLED, UNAUTHORIZED
from airflow_dla.runtime.silence import Silence, explained

#: A server may ask for any wait; for longer than this nobody's thread waits, seconds.
_THROTTLED_S: Final = 5.0
_CONNECTING_S: Final = 10.0

Query = Sequence[tuple[str, str]]


class Server:
    """One API server, by a client that is loaded when it is first asked; safe from any number of threads.

    Parameters
    ----------
    connect : callable
        Returns a `kubernetes.client.ApiClient` with the credentials of now.
    name : str
        Name of the place, for messages.
    clock : callable
        Seconds of a monotonic clock.
    sleep : callable
        Waits so many seconds.
    """

    def __init__(
        self, connect: Callable[[], Any], *, name: str,
        clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self.name = name
        self._connect = connect
        self._sleep = sleep
        self._turn = threading.Lock()
        self._made: Any = None
        self._silence = Silence(clock)
        #: Versions of API groups that it serves, as far as somebody asked.
        self.versions: dict[str, frozenset[str]] = {}

    def ask(self, method: str, path: str, query: Query = (), *, body: Any = None, timeout_s: float, content: str = "json") -> Answer:
        """Send one request and read its whole answer, good or not.

        Parameters
        ----------
        method, path : str
        query : sequence of pairs of str
        body : object
            Sent as JSON.
        timeout_s : float
            Seconds without a byte from the server after which it counts as not answering.
        content : str
            Subtype of the body's content: ``json``, ``merge-patch+json``, ``json-patch+json``.

        Raises
        ------
        PlaceUnavailable
            If it does not answer, does not know us, or still wants us to wait after we did.
        """
        headers = {"Content-Type": f"application/{content}"} if body is not None else {}
        response = self.open(method, path, query, body=body, headers=headers, timeout_s=timeout_s)
        return response if isinstance(response, Answer) else self.read(response)

    def open(
        self, method: str, path: str, query: Query = (), *, body: Any = None, headers: Mapping[str, str] | None = None, timeout_s: float
    ) -> Any:
        """Send one request; return the response of `urllib3`, its body unread, or an `Answer` that is not good.

        Raises
        ------
        PlaceUnavailable
            As `ask` does.
        """
        data = None if body is None else json.dumps(body).encode()
        address = f"{path}?{urlencode(query)}" if query else path

        def send() -> Any:
            return self._sent(method, address, data, headers or {}, timeout_s)

        response = send()
        if isinstance(response, Answer) and response.status == UNAUTHORIZED:
            self.forget()
            response = send()
        if isinstance(response, Answer) and response.status == THROTTLED:
            self._sleep(min(response.retry_after_s, _THROTTLED_S))
            response = send()
        return response

    def read(self, response: Any) -> Answer:
        """Read the whole body of a response.

        Raises
        ------
        PlaceUnavailable
            If the connection breaks, or it is not what it says.
        """
        try:
            return _answer_of(response)
        except _faults() as fault:
            raise self.unavailable(fault) from fault

    def unavailable(self, fault: BaseException) -> PlaceUnavailable:
        """Return the error of a server that does not answer, which all callers then know for a while."""
        reason = _reason(fault)
        self._silence.begin(reason, fault)
        return PlaceUnavailable(f"place {self.name}: the API server{self._where()} does not answer: {reason}")

    def forget(self) -> None:
        """Have the next request load credentials anew; what is under way goes on."""
        with self._turn:
            self._made = None

    def _sent(self, method: str, address: str, data: bytes | None, headers: Mapping[str, str], timeout_s: float) -> Any:
        if silent := self._silence.reason():
            raise PlaceUnavailable(f"place {self.name}: the API server{self._where()} does not answer: {silent}")
        try:
            client, ours = self._known()
            response = _send(client, method, address, data, headers={**ours, **headers}, timeout_s=timeout_s)
            answer = response if response.status < 400 else _answer_of(response)  # noqa: PLR2004 - the first of HTTP's errors
        except DlaError:
            raise
        except _faults() as fault:
            raise self.unavailable(fault) from fault
        self._silence.end()
        return answer

    def _known(self) -> tuple[Any, dict[str, str]]:
        """Return the client, and the headers that tell who we are; a token may be made anew for them."""
        with self._turn:
            if self._made is None:
                self._made = self._connect()
            headers = {**self._made.default_headers, "Accept": "application/json, */*", "User-Agent": "airflow-dla"}
            self._made.update_params_for_auth(headers, [], ["BearerToken"])
            return self._made, headers

    def _where(self) -> str:
        made = self._made
        return f" at {made.configuration.host}" if made is not None else ""


def _send(client: Any, method: str, address: str, data: bytes | None, *, headers: Mapping[str, str], timeout_s: float) -> Any:
    """Send a request by a client's own connections: its own methods would parse what we pass on, and wait on their own."""
    from urllib3 import Timeout  # noqa: PLC0415 - comes with the optional client
    from urllib3.exceptions import ProtocolError  # noqa: PLC0415 - the same

    send = functools.partial(
        client.rest_client.pool_manager.request, method, client.configuration.host + address, body=data, headers=headers,
        preload_content=False, retries=False, redirect=False, timeout=Timeout(connect=min(timeout_s, _CONNECTING_S), read=timeout_s),
    )  # fmt: skip
    try:
        return send()
    except ProtocolError:
        # A connection that was idle for long may break at its first use; no request of ours changes anything twice.
        return send()


def _answer_of(response: Any) -> Answer:
    """Read a whole response and give its connection back.

    Raises
    ------
    ValueError
        If it says that it is JSON and is not.
    """
    headers = {name.lower(): value for name, value in response.headers.items()}
    try:
        data = response.read()
    finally:
        response.release_conn()
    if "json" in headers.get("content-type", ""):
        return Answer(response.status, json.loads(data), headers)
    return Answer(response.status, data.decode("utf-8", "replace") or None, headers)


@functools.cache
def _faults() -> tuple[type[Exception], ...]:
    """Return what a request raises when it gets no answer, and what loading credentials does."""
    from http.client import HTTPException  # noqa: PLC0415 - loaded with the optional client

    from kubernetes.client.exceptions import OpenApiException
    from kubernetes.config import ConfigException
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with it

    return (OSError, HTTPException, HTTPError, OpenApiException, ConfigException, ValueError)


def _reason(fault: BaseException) -> str:
    return explained(fault, _HINTS, "is an API server running there?")


_HINTS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (ssl.SSLError, "its certificate or ours is not accepted: compare the connection's certificate authority with the cluster's"),
    (FileNotFoundError, "the connection names a file or a program that is not here"),
    (TimeoutError, "it took too long: is the API server overloaded, or cut off by a firewall?"),
    (ConnectionError, "is the API server running, is its address right?"),
)
