"""Inputs and outputs through an object store that pods reach: by addresses signed for single files, no credential goes along."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from cluster_runtime import small
from clusters import REAL, Site
from contracts.runtime import ended, submitted, wait_until
from fixtures_s3 import KEY, SECRET

from airflow_dla.artifacts import Store
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime

pytestmark = [pytest.mark.parametrize("site", REAL, indirect=True), pytest.mark.timeout(240)]

Runtimes = Callable[..., KubernetesRuntime]


@pytest.fixture
def server(site: Site, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Start an object store on the address of this host that the nodes' network reaches; return its URL and what it was asked."""
    node = site.ask("GET", "/api/v1/nodes")["items"][0]
    address = next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect((address, 9))
        here = route.getsockname()[0]
    with socket.socket() as free:
        free.bind((here, 0))
        port = free.getsockname()[1]
    log = tmp_path / "requests"
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", here, "-p", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
    try:
        wait_until(lambda: _reached(here, port), 60)
        yield f"http://{here}:{port}", log
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def options(server: tuple[str, Path]) -> dict[str, Any]:
    """Return what fsspec needs to open it."""
    client = {"endpoint_url": server[0], "region_name": "us-east-1"}
    return {"key": KEY, "secret": SECRET, "client_kwargs": client, "skip_instance_cache": True, "use_listings_cache": False}


@pytest.fixture
def bucket(server: tuple[str, Path], options: dict[str, Any]) -> Store:
    """Return a store in a bucket of it."""
    with urlopen(Request(f"{server[0]}/dla-pods", method="PUT"), timeout=30) as answer:
        assert answer.status == 200
    return Store("s3://dla-pods/store", options=options)


def test_an_unaware_image(  # noqa: PLR0917 - fixtures
    site: Site, runtimes: Runtimes, bucket: Store, options: dict[str, Any], server: tuple[str, Path], tmp_path: Path
):
    """Inputs are fetched and outputs published by the pod itself; metrics are read; no object of the cluster holds a credential."""
    runtime = runtimes(goods=bucket, options=options, helper=site.image, store="direct")
    folder = tmp_path / "numbers"
    folder.mkdir()
    (folder / "numbers.csv").write_text("1\n2\n4\n")
    (folder / "large").write_bytes(bytes(3_000_000))
    numbers = bucket.publish(folder, kind="dataset")
    before = server[1].read_text()
    command = ["sh", "-c", "cat {inputs.train}/* > {outputs.model}/all; echo total=7; sleep 3"]
    launch = small(
        command, image=site.pythonless, inputs={"train": numbers}, outputs=("model",), metrics={"total": r"total=(\d+)"}, store=bucket.url
    )
    submitted(runtime, launch, 90)
    shown = _shown(site)
    assert KEY not in shown
    assert SECRET not in shown
    found = ended(runtime, "job.1", 90)
    assert found.succeeded, found
    assert found.metrics == {"total": 7.0}
    bucket.fetch(found.outputs["model"].digest, tmp_path / "model")
    assert (tmp_path / "model" / "all").stat().st_size == 3_000_006
    asked = server[1].read_text().removeprefix(before)
    assert asked.count("Signature=") >= 3  # two files read, one written, by whom only an address was given


def test_out_of_reach(site: Site, runtimes: Runtimes, bucket: Store, options: dict[str, Any], tmp_path: Path):
    """Where pods do not reach the store, what they need is carried to them, and away."""
    runtime = runtimes(goods=bucket, options=options, store="relay")
    launch = small(["sh", "-c", "echo 7 > {outputs.model}/n"], outputs=("model",), store=bucket.url)
    submitted(runtime, launch, 90)
    found = ended(runtime, "job.1", 90)
    assert found.succeeded, found
    bucket.fetch(found.outputs["model"].digest, tmp_path / "model")
    assert (tmp_path / "model" / "n").read_text() == "7\n"
    assert SECRET not in _shown(site)


def _shown(site: Site) -> str:
    """Return all that a namespace holds."""
    kinds = (("batch/v1", "jobs"), ("v1", "pods"), ("v1", "configmaps"), ("v1", "secrets"), ("v1", "services"), ("v1", "events"))
    return json.dumps([site.ask("GET", site.at(version, plural)) for version, plural in kinds])


def _reached(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
