"""A real cluster: the one that DLA_TEST_KUBECONFIG names, where the suite has a namespace and an image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clusters import Site, config_of, read_config
from docker_daemon import Engine
from fakes.kubelet_docker import DockerKubelet
from fakes.kubernetes_api import FakeCluster

KUBECONFIG, IMAGE, NAMESPACE = "DLA_TEST_KUBECONFIG", "DLA_TEST_IMAGE", "DLA_TEST_NAMESPACE"
#: Names an image without Python, where the cluster has one.
PYTHONLESS = "DLA_TEST_IMAGE_WITHOUT_PYTHON"


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """What is known of the cluster.

    Parameters
    ----------
    kubeconfig : path
    image : str
        With a shell and Python 3.8 or newer; its nodes have it, or can pull it.
    namespace : str
        Is there, and is the suite's own.
    """

    kubeconfig: Path
    image: str
    namespace: str


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a cluster where none is named."""
    if item.get_closest_marker("kubernetes") and not os.environ.get(KUBECONFIG):
        pytest.skip(f"no cluster is named: set {KUBECONFIG}, {IMAGE} and {NAMESPACE}")


@pytest.fixture(scope="session")
def named_cluster() -> ClusterAccess:
    """Return the cluster that the environment names; it is named wholly or not at all."""
    missing = [name for name in (KUBECONFIG, IMAGE, NAMESPACE) if not os.environ.get(name)]
    if missing:
        pytest.fail(f"the cluster is named in part: {', '.join(missing)} must be set, too")
    return ClusterAccess(Path(os.environ[KUBECONFIG]).absolute(), os.environ[IMAGE], os.environ[NAMESPACE])


@pytest.fixture(scope="session")
def named_site(named_cluster: ClusterAccess) -> Iterator[Site]:
    """Return that cluster, as somebody else sees it."""
    config = read_config(named_cluster.kubeconfig)
    site = Site(config, named_cluster.namespace, named_cluster.image, os.environ.get(PYTHONLESS) or named_cluster.image)
    yield site
    site.forget_runners()


@pytest.fixture(scope="session")
def docker_site(docker_engine: Engine, base_image: str, bare_image: str) -> Iterator[Site]:
    """Return a fake cluster whose pods run on the engine of the tests."""
    pytest.importorskip("kubernetes")
    with docker_engine.client() as client:
        host = client.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"]
    with FakeCluster(DockerKubelet(docker_engine.client, base_image), namespace="dla-test", address=host) as fake:
        yield Site(config_of({"server": fake.url}, {}), fake.namespace, base_image, bare_image)
