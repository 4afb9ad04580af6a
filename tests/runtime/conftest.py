"""Real processes: a local runtime in a folder of its own, and jobs with code."""

from __future__ import annotations

import tempfile
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import launches
import pytest
from cluster_runtime import closed, runtime_at
from clusters import Site
from contracts.runtime import job_file
from docker_daemon import Engine as DockerEngine

from airflow_dla.artifacts import Store
from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.runtime.docker.shared_ground import SharedGround
from airflow_dla.runtime.docker.volume_ground import VolumeGround
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.specs import ArtifactRef, Exit, JobFile, PlaceSpec

#: Makes the runtime of a site, as one more process would; all are closed with the test.
Runtimes = Callable[..., KubernetesRuntime]


@pytest.fixture(scope="session")
def job() -> Callable[..., JobFile]:
    """Return a function that makes a job which nobody runs."""
    return launches.job


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an artifact store of its own."""
    return Store(str(tmp_path / "store"))


@pytest.fixture
def numbers(store: Store, tmp_path: Path) -> ArtifactRef:
    """Return an input."""
    folder = tmp_path / "numbers"
    folder.mkdir()
    (folder / "numbers.csv").write_text("1\n2\n4\n")
    return store.publish(folder, kind="dataset")


@pytest.fixture
def published(store: Store, tmp_path: Path) -> Callable[[Exit], dict[str, str]]:
    """Return a function that returns the files of an attempt's model."""

    def published_(found: Exit) -> dict[str, str]:
        assert found.succeeded, found
        folder = tmp_path / f"model-{time.monotonic_ns()}"
        store.fetch(found.outputs["model"].digest, folder)
        return {path.name: path.read_text() for path in folder.iterdir()}

    return published_


@pytest.fixture
def local(tmp_path: Path):
    """Return a local runtime; whatever still runs in it at the end is ended."""
    runtime = LocalRuntime(tmp_path / "jobs", node="laptop")
    yield runtime
    for label, alive in runtime.jobs().items():
        if alive:
            keeper = (runtime.root / label / "keeper.json").read_text()
            pytest.fail(f"{label} was left running: {keeper}")


@pytest.fixture
def jobs_folder() -> Iterator[Path]:
    """Return a folder for jobs that containers' users can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="dla-jobs-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@pytest.fixture
def docker(docker_engine: DockerEngine, jobs_folder: Path, store: Store) -> Iterator[DockerRuntime]:
    """Return a Docker runtime in a workspace of its own; its containers are removed at the end, and none may run then."""
    engine = Engine(docker_engine.client, name="docker", address=docker_engine.host)
    place = PlaceSpec(name="docker", kind="docker", url=docker_engine.host)
    workspace = uuid.uuid4().hex
    runtime = DockerRuntime(engine, place, node="laptop", workspace=workspace, ground=SharedGround(jobs_folder, local=store.folder))
    yield runtime
    found = engine.listing(workspace)
    for one in found.values():
        engine.remove(one.id, force=True)
    engine.close()
    assert [label for label, one in found.items() if one.alive] == []


@pytest.fixture
def volume_ground(docker_engine: DockerEngine, base_image: str, jobs_folder: Path, store: Store) -> Iterator[VolumeGround]:
    """Return a ground in volumes of the engine; what is left there at the end is removed."""
    ground = ground_in_volumes(docker_engine, base_image, jobs_folder, Path(store.url.removeprefix("file://")))
    yield ground
    for attempt in ground.launched():
        ground.clear(attempt)
    assert ground.launched() == set()


@pytest.fixture
def remote(volume_ground: VolumeGround) -> Iterator[DockerRuntime]:
    """Return a Docker runtime that shares no folder with its engine; its containers are removed at the end, and none may run then."""
    runtime = runtime_on(volume_ground)
    yield runtime
    found = runtime.engine.listing(volume_ground.workspace)
    for one in found.values():
        runtime.engine.remove(one.id, force=True)
    assert [label for label, one in found.items() if one.alive] == []


def ground_in_volumes(engine: DockerEngine, helper: str, folder: Path, store: Path, **more: Any) -> VolumeGround:
    """Return a ground of a workspace of its own, whose mates see a store's folder."""
    store.mkdir(exist_ok=True)
    place = PlaceSpec(name="far", kind="docker", url=engine.host, helper=helper)
    client = Engine(engine.client, name="far", address=engine.host)
    return VolumeGround(client, place, workspace=uuid.uuid4().hex, logs=folder / "logs", store_folder=store, **more)


def runtime_on(ground: VolumeGround) -> DockerRuntime:
    """Return the runtime of a ground, as any process makes it."""
    return DockerRuntime(ground.engine, ground.place, node="laptop", workspace=ground.workspace, ground=ground)


@pytest.fixture(
    params=[
        pytest.param("docker_site", marks=[pytest.mark.docker, pytest.mark.timeout(300)]),
        pytest.param("named_site", marks=pytest.mark.kubernetes),
    ]
)  # fmt: skip
def site(request: pytest.FixtureRequest) -> Site:
    """Return a cluster: a fake one whose pods run on an engine, and a real one where one is named."""
    found: Site = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def workspace_id(site: Site) -> Iterator[str]:
    """Return the identity of a workspace of its own; nothing of it is left, and none of its pods may run at the end."""
    identity = uuid.uuid4().hex
    yield identity
    assert site.clear(identity) == []


@pytest.fixture
def runtimes(site: Site, workspace_id: str, store: Store, tmp_path: Path) -> Iterator[Runtimes]:
    """Return a function that makes a runtime of the workspace."""
    made: list[KubernetesRuntime] = []

    def make(at: Site = site, *, goods: Store = store, **place: Any) -> KubernetesRuntime:
        made.append(runtime_at(at, workspace_id, goods, **{"logs": tmp_path / "logs", **place}))
        return made[-1]

    yield make
    for runtime in made:
        closed(runtime)


@pytest.fixture
def pods(runtimes: Runtimes) -> KubernetesRuntime:
    """Return a runtime on the cluster."""
    return runtimes()


@pytest.fixture
def launch(tmp_path: Path, store: Store) -> Callable[..., Launch]:
    """Return a function that ships code as an artifact and makes a launch."""

    def launch_(code: str = "", entrypoint: Any = "work:main", attempt: str = "job.1", *, secrets: Any = None, **fields: Any) -> Launch:
        if code:
            folder = tmp_path / f"code-{abs(hash(code))}"
            folder.mkdir(exist_ok=True)
            (folder / "work.py").write_text(textwrap.dedent(code))
            fields["code"] = store.publish(folder, kind="code")
        return Launch(job=job_file(attempt, entrypoint, store=store.url, **fields), secrets=secrets or {})

    return launch_
