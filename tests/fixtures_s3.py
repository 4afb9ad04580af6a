"""An S3-compatible object store on loopback, for tests that need one; stopped by its id."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from contracts.runtime import wait_until

#: What the store takes for a credential.
KEY, SECRET = "AKIADLATEST", "s3cr3t-of-the-store"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Return the address of an object store that this process started."""
    pytest.importorskip("moto", reason="moto[server] is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), timeout_s=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def s3_options(s3_endpoint: str) -> dict[str, Any]:
    """Return what fsspec needs to open it."""
    # Listings and instances are not shared between tests, which each have a bucket of their own.
    client = {"endpoint_url": s3_endpoint, "region_name": "us-east-1"}
    return {"key": KEY, "secret": SECRET, "client_kwargs": client, "skip_instance_cache": True, "use_listings_cache": False}


@pytest.fixture
def s3_url(s3_endpoint: str) -> str:
    """Return the URL of a store in a bucket of its own."""
    bucket = f"dla-{uuid.uuid4().hex[:12]}"
    connection = http.client.HTTPConnection(s3_endpoint.removeprefix("http://"), timeout=30)
    connection.request("PUT", f"/{bucket}")
    assert connection.getresponse().status == http.client.OK
    connection.close()
    return f"s3://{bucket}/store"


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
