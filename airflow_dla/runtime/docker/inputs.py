"""What a container reads on its standard input, written by one who then hangs up."""

from __future__ import annotations

import contextlib
import socket as sockets
import ssl
from typing import Any, Final

_PIECE: Final = 1 << 16
_GOODBYE_S: Final = 1.0


class Attached:
    """A connection to a container's standard input, made before the container starts.

    Parameters
    ----------
    client : object
        A `docker.APIClient`.
    container : str
        Name or id.
    patience_s : float
        Seconds that a write may take.
    """

    def __init__(self, client: Any, container: str, *, patience_s: float) -> None:
        reader = client.attach_socket(container, params={"stdin": 1, "stream": 1})
        self._reader = reader
        self._socket = getattr(reader, "_sock", None) or reader
        self._socket.settimeout(patience_s)

    def write(self, data: bytes) -> bool:
        """Write everything, let the container see the end of it, and wait a moment for the engine's goodbye.

        Returns
        -------
        bool
            Whether it came. An engine that starts the container before it has settled this connection
            has no fault, and says goodbye when the container ends.
        """
        # A container that ended, or closed its input, has no use for the rest.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)
            self._socket.settimeout(_GOODBYE_S)
            return self._goodbye()
        return True

    def _goodbye(self) -> bool:
        with contextlib.suppress(TimeoutError):
            if isinstance(self._socket, ssl.SSLSocket):
                self._hang_up_tls()
                return True
            self._hang_up()
            while self._socket.recv(_PIECE):
                pass
            return True
        return False

    def _hang_up(self) -> None:
        if hasattr(self._socket, "shutdown_write"):  # paramiko's
            self._socket.shutdown_write()
        else:
            self._socket.shutdown(sockets.SHUT_WR)

    def _hang_up_tls(self) -> None:
        """Say TLS's own word for the end, and wait for the engine's; its connection stays until the container ends."""
        with contextlib.suppress(ssl.SSLError):
            self._socket.unwrap()

    def close(self) -> None:
        """Close the connection, which whatever still reads from it keeps open."""
        for held in (self._reader, self._socket, getattr(self._reader, "_response", None)):
            if held is not None:
                with contextlib.suppress(OSError, ValueError):  # what lies below may be closed before
                    held.close()
