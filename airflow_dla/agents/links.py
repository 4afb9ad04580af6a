"""Files by signed addresses: whoever has one may read or write that one file, for some minutes.

An address is a secret while it lasts, so what goes wrong is told without its query.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Tuple
from urllib.parse import urlsplit

from .frames import PIECE

_PATIENCE_S = 60.0
_TRIES = 3
_PAUSE_S = 0.25
_SAID = 300
_REFUSED = (400, 401, 403)
_BUSY = 429

#: ``{"url": …, "headers": {…}}``
Link = Mapping[str, Any]


class Refused(Exception):
    """Raised when an address is not, or no longer, good for what it was signed for."""


class Missing(Exception):
    """Raised when there is no such file."""


class Unreachable(Exception):
    """Raised when its host cannot be reached from here, or keeps failing."""


class CutOff(Unreachable):
    """Raised when an answer breaks off: another try may be luckier."""


def pieces(link: Link) -> Iterator[bytes]:
    """Yield the bytes of a file.

    Raises
    ------
    Refused, Missing, Unreachable, CutOff
    """
    with _answered("GET", link) as answer:
        while True:
            try:
                piece = answer.read(PIECE)
            except (OSError, http.client.HTTPException) as error:
                raise CutOff(f"{_shown(link)} broke off: {_reason(error)}") from None
            if not piece:
                return
            yield piece


def upload(link: Link, source: Path, size: int) -> None:
    """Write a file.

    Raises
    ------
    Refused, Missing, Unreachable
    """
    with _answered("PUT", link, source, size) as answer:
        answer.read()


@contextlib.contextmanager
def _answered(method: str, link: Link, *body: Any) -> Iterator[http.client.HTTPResponse]:
    """Ask, again while the host fails, and give its answer."""
    for attempt in range(1, _TRIES + 1):
        try:
            connection, answer = _asked(method, link, *body)
        except (OSError, http.client.HTTPException) as error:
            if attempt == _TRIES or isinstance(error, (ssl.SSLError, socket.gaierror)):
                raise Unreachable(f"{_shown(link)} cannot be reached: {_reason(error)}") from None
        else:
            try:
                if answer.status < http.client.MULTIPLE_CHOICES:
                    yield answer
                    return
                _judge(link, answer, last=attempt == _TRIES)
            finally:
                answer.close()
                connection.close()
        time.sleep(_PAUSE_S * 2**attempt)


def _asked(method: str, link: Link, *body: Any) -> Tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    url = urlsplit(link["url"])
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=_PATIENCE_S)
    try:
        # No headers but those that were signed: an unsigned Content-Type makes some stores refuse.
        connection.putrequest(method, f"{url.path or '/'}?{url.query}", skip_accept_encoding=True)
        for name, value in _headers(link, body).items():
            connection.putheader(name, value)
        connection.endheaders()
        if body:
            _send(connection, *body)
        return connection, connection.getresponse()
    except BaseException:
        connection.close()
        raise


def _headers(link: Link, body: Tuple[Any, ...]) -> Dict[str, str]:
    return {**link.get("headers", {}), **({"Content-Length": str(body[1])} if body else {})}


def _send(connection: http.client.HTTPConnection, source: Path, size: int) -> None:
    left = size
    # A host that refuses may say so before it has read everything.
    with source.open("rb", buffering=0) as file, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while left:
            piece = file.read(min(PIECE, left))
            if not piece:
                raise Unreachable(f"{source.name} became shorter while it was sent")
            connection.send(piece)
            left -= len(piece)


def _judge(link: Link, answer: http.client.HTTPResponse, *, last: bool) -> None:
    said = f"{_shown(link)} answered {answer.status} {answer.reason}"
    if answer.status in _REFUSED:
        raise Refused(said)
    if answer.status == http.client.NOT_FOUND:
        raise Missing(said)
    if last or (answer.status < http.client.INTERNAL_SERVER_ERROR and answer.status != _BUSY):
        raise Unreachable(said)


def _shown(link: Link) -> str:
    url = urlsplit(link["url"])
    return f"{url.scheme}://{url.hostname}{url.path}"[:_SAID]


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_SAID]
