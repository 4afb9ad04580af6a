"""Data into and out of a pod that holds no credentials: real helpers, pipes that break, kills at any moment."""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import job_file
from contracts.store import damage, leaves, plant
from fakes.pod import FakePod
from fixtures_s3 import SECRET

from airflow_dla.artifacts import Exchange
from airflow_dla.errors import PlaceUnavailable, StoreUnavailable
from airflow_dla.runtime.kubernetes.freight import Freight
from airflow_dla.runtime.kubernetes.told import Told
from airflow_dla.specs import JobFile, ModelRef, UriRef

POD = "dla-job-1-x"


@pytest.fixture
def store(tmp_path: Path) -> Exchange:
    """Return a store of its own."""
    return Exchange(str(tmp_path / "store"))


class Elsewhere:
    """A store whose addresses lead nowhere."""

    def __init__(self, store: Exchange) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def signed_reads(self, digest: str) -> dict[str, Any]:
        """Return addresses."""
        return {path: {"url": f"http://127.0.0.1:9/{path}"} for path in self._store.signed_reads(digest)}

    def signed_writes(self, manifest: Any) -> dict[str, Any]:
        """Return addresses."""
        return {path: {"url": f"http://127.0.0.1:9/{path}"} for path in self._store.signed_writes(manifest)}


class Followed:
    """One attempt in a pod, and who follows it."""

    def __init__(self, folder: Path, store: Any, job: JobFile, *, direct: bool = True, python: str = sys.executable) -> None:
        self.job = job
        self.store = store
        self.pod = FakePod(folder, job, python=python)
        self.freight = Freight(self.pod, store, direct=direct, control=str(self.pod.control))
        self.pod.start("fetch")

    def told(self, container: str) -> Told | None:
        """Return what a helper said."""
        return self.freight.look(POD, container)

    def follow(self, container: str, until: Callable[[Told], Any], timeout_s: float = 30.0) -> Told:
        """Do what a helper wants until it says something; faults on the way are what follower is used to."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            told = self.told(container)
            if told is not None and until(told):
                return told
            if told is not None and told.waits:
                self.serve(container, told)
            time.sleep(0.02)
        raise AssertionError(f"not within {timeout_s} s: {self.told(container)}, {(self.pod.control / f'{container}.log').read_text()}")

    def serve(self, container: str, told: Told) -> None:
        """Do once what is wanted."""
        with contextlib.suppress(PlaceUnavailable, StoreUnavailable):  # it is called again
            self.freight.bring(POD, self.job, told, container=container)
            self.freight.take(POD, self.job, told, container=container)

    def fetch(self) -> Told:
        """Bring everything."""
        return self.follow("fetch", lambda told: told.fetched or told.error)

    def stay(self) -> None:
        """Let the job begin."""
        assert self.pod.wait("fetch") == 0
        self.pod.start("mate")

    def publish(self, *, succeeded: bool = True) -> Told:
        """End the job, as a kubelet and a follower do, and publish."""
        self.follow("mate", lambda told: told.role == "mate")
        self.pod.signal("mate", signal.SIGTERM)
        self.freight.tell(POD, "mate", "ended", {"succeeded": succeeded, "hard": False})
        return self.follow("mate", lambda told: told.published)


@pytest.fixture
def followed(tmp_path: Path, store: Exchange) -> Iterator[Callable[..., Followed]]:
    """Return a function that launches an attempt."""
    made: list[Followed] = []

    def launched(attempt: str = "job.1", *, other: Any = None, **fields: Any) -> Followed:
        how = {name: fields.pop(name) for name in ("direct", "python") if name in fields}
        used = other or store
        job = job_file(attempt, **{"store": used.url, **fields})
        made.append(Followed(tmp_path / f"pod-{len(made)}", used, job, **how))
        return made[-1]

    yield launched
    for each in made:
        each.pod.close()


def test_whole_life(followed: Callable[..., Followed], store: Exchange, tmp_path: Path) -> None:
    """Inputs, code and a checkpoint come as plain files, outputs and checkpoints go, from a pod with no way to the store."""
    tree = {"x": b"1", "sub": {"größe": bytes(3 << 20), "empty": b""}}
    train = store.publish(plant(tmp_path / "train", tree), kind="dataset")
    (plant(tmp_path / "code", {"go.sh": b"#!"}) / "go.sh").chmod(0o755)
    code = store.publish(tmp_path / "code", kind="code")
    far = UriRef(uri=f"file://{plant(tmp_path / 'far', {'a': b'A', 'b': {'c': b'C'}})}", mode="copy")
    store.save_checkpoint("job", plant(tmp_path / "old", {"s": b"7"}))
    skipped = ModelRef(model="none@champion", missing="skip")
    one = followed("job.2", inputs={"train": train, "far": far, "none": skipped}, code=code, outputs=("model",))
    assert one.fetch().fetched
    assert leaves(one.pod.dla / "in" / "train") == leaves(tmp_path / "train")
    assert leaves(one.pod.dla / "in" / "far") == {"a": b"A", "b/c": b"C"}
    assert leaves(one.pod.dla / "checkpoint") == {"s": b"7"}
    assert os.access(one.pod.dla / "code" / "go.sh", os.X_OK)
    assert (one.pod.dla / "code" / "go.sh").stat().st_mode & 0o200
    assert not (one.pod.dla / "in" / "train" / "x").stat().st_mode & 0o222
    assert not (one.pod.control / "arriving").exists()
    one.stay()
    plant(one.pod.dla / "checkpoint", {"s": b"8"})
    one.follow("mate", lambda _: len(store.checkpoints("job")) == 2)
    plant(one.pod.dla / "out" / "model", {"w": bytes(2 << 20)})
    (one.pod.dla / "out" / "model" / "last").symlink_to("/dla/out/model/w")
    published = one.publish().published
    assert published is not None
    assert published.error is None
    store.fetch(published.outputs["model"].digest, tmp_path / "got")
    assert leaves(tmp_path / "got") == {"w": bytes(2 << 20), "last": bytes(2 << 20)}
    assert one.pod.wait("mate") == 0
    store.fetch_checkpoint("job", tmp_path / "restored")
    assert leaves(tmp_path / "restored") == {"s": b"8"}


@pytest.mark.parametrize("direct", [True, False])
def test_through_an_object_store(
    followed: Callable[..., Followed], s3_url: str, s3_options: dict[str, Any], tmp_path: Path, direct: bool
) -> None:
    """Where addresses can be signed the pod reads and writes by itself; no credential ever comes to it."""
    store = Exchange(s3_url, options=s3_options)
    tree = {"x": os.urandom(3 << 20), "sub": {"größe": b"1", "empty": b""}}
    train = store.publish(plant(tmp_path / "train", tree), kind="dataset")
    store.save_checkpoint("job", plant(tmp_path / "old", {"s": b"7"}))
    one = followed("job.2", other=store, direct=direct, inputs={"train": train}, outputs=("model",))
    assert one.fetch().fetched
    assert leaves(one.pod.dla / "in" / "train") == leaves(tmp_path / "train")
    assert leaves(one.pod.dla / "checkpoint") == {"s": b"7"}
    one.stay()
    plant(one.pod.dla / "checkpoint", {"s": b"8"})
    one.follow("mate", lambda _: len(store.checkpoints("job")) == 2)
    plant(one.pod.dla / "out" / "model", tree)
    published = one.publish().published
    assert published is not None
    store.fetch(published.outputs["model"].digest, tmp_path / "got")
    assert leaves(tmp_path / "got") == leaves(tmp_path / "train")
    assert any(verb[0] in ("take", "give") for verb in one.pod.execs) is not direct
    held = b"".join(path.read_bytes() for path in one.pod.control.rglob("*") if path.is_file() and "agents" not in path.parts)
    assert SECRET.encode() not in held


def test_addresses_that_the_pod_cannot_reach(
    followed: Callable[..., Followed], s3_url: str, s3_options: dict[str, Any], tmp_path: Path
) -> None:
    """Then the bytes go through the follower, both ways."""
    store = Exchange(s3_url, options=s3_options)
    train = store.publish(plant(tmp_path / "train", {"x": b"1"}), kind="dataset")
    one = followed(other=Elsewhere(store), inputs={"train": train}, outputs=("model",))
    assert one.fetch().fetched
    one.stay()
    plant(one.pod.dla / "out" / "model", {"w": b"2"})
    published = one.publish().published
    assert published is not None
    assert b"".join(store.pieces(published.outputs["model"].digest, store.manifest(published.outputs["model"].digest).files[0])) == b"2"
    assert {"take", "give"} <= {verb[0] for verb in one.pod.execs}


@pytest.mark.parametrize("version", ["3.8"])
def test_an_old_python(followed: Callable[..., Followed], store: Exchange, tmp_path: Path, version: str) -> None:
    """A helper's image needs no more than a Python 3.8."""
    known = [*map(str, Path(sys.base_prefix).parent.glob(f"{version}*/bin/python{version}")), shutil.which(f"python{version}")]
    python = next((path for path in known if path and _works(path)), None)
    if python is None:
        pytest.skip(f"no python{version} on this machine")
    train = store.publish(plant(tmp_path / "train", {"x": b"1"}), kind="dataset")
    one = followed(inputs={"train": train}, outputs=("model",), python=python)
    assert one.fetch().fetched
    one.stay()
    plant(one.pod.dla / "out" / "model", {"w": b"1"})
    published = one.publish().published
    assert published is not None
    assert published.error is None


def test_nothing_to_bring(followed: Callable[..., Followed]) -> None:
    """A first attempt without inputs waits for nobody."""
    one = followed(outputs=("model",))
    assert one.pod.wait("fetch") == 0
    assert (one.pod.dla / "out" / "model").is_dir()
    assert one.pod.execs == []


def test_a_restored_checkpoint_is_not_saved_again(followed: Callable[..., Followed], store: Exchange, tmp_path: Path) -> None:
    """What came from the store is not offered to it."""
    store.save_checkpoint("job", plant(tmp_path / "old", {"s": b"7"}))
    one = followed("job.2", outputs=())
    one.fetch()
    one.stay()
    one.follow("mate", lambda told: told.role == "mate")
    time.sleep(1.5)
    one.publish(succeeded=False)
    assert not any(verb[0] == "offer" for verb in one.pod.execs)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(b"2", "input 'train': artifact .* is damaged: files/x has sha256"), (None, "input 'train': artifact .* files/x is missing")],
    ids=["damaged", "missing"],
)
def test_a_damaged_input(followed: Callable[..., Followed], store: Exchange, tmp_path: Path, spoil: bytes | None, said: str) -> None:
    """The job never starts, and the pod says why."""
    train = store.publish(plant(tmp_path / "train", {"x": b"1"}), kind="dataset")
    damage(store, train.digest, "x", spoil)
    one = followed(inputs={"train": train})
    error = one.fetch().error
    assert error is not None
    assert error[0] == "user_error"
    assert re.search(said, error[1])
    assert one.pod.wait("fetch") == 1
    assert not (one.pod.dla / "in" / "train").exists()


def test_a_damaged_checkpoint_gives_way_to_the_one_before(followed: Callable[..., Followed], store: Exchange, tmp_path: Path) -> None:
    """As in every other place."""
    store.save_checkpoint("job", plant(tmp_path / "1", {"s": b"1"}))
    newest = store.save_checkpoint("job", plant(tmp_path / "2", {"s": b"2"}))
    damage(store, newest.digest, "s", b"x")
    one = followed("job.2")
    assert one.fetch().fetched
    assert leaves(one.pod.dla / "checkpoint") == {"s": b"1"}


@pytest.mark.parametrize("what", ["model", "uri", "artifact"])
def test_an_input_that_is_not_there(followed: Callable[..., Followed], tmp_path: Path, what: str) -> None:
    """Its name is in the message."""
    refs = {
        "model": ModelRef(model="digits@champion"),
        "uri": UriRef(uri=f"file://{tmp_path}/gone", mode="copy"),
        "artifact": ModelRef(model="digits@3", digest="sha256:" + "ab" * 32),
    }
    error = followed(inputs={"train": refs[what]}).fetch().error
    assert error is not None
    assert error[1].startswith("input 'train': ")


def test_a_stop_while_fetching(followed: Callable[..., Followed], store: Exchange, tmp_path: Path) -> None:
    """It never starts."""
    one = followed(inputs={"train": store.publish(plant(tmp_path / "train", {"x": b"1"}), kind="dataset")})
    told = one.follow("fetch", lambda told: told.wants)
    assert told.text == "fetching inputs"
    one.freight.tell(POD, "fetch", "stop", {"reason": "preempted", "at": 0})
    assert one.pod.wait("fetch") == 1
    last = one.told("fetch")
    assert last is not None
    assert last.error == ("preempted", "preempted before it started")


def test_ways_that_break(followed: Callable[..., Followed], store: Exchange, tmp_path: Path) -> None:
    """Wherever the pipe breaks, what has arrived is not sent again, and everything is right in the end."""
    tree = {f"f{index}": os.urandom(200_000) for index in range(4)}
    train = store.publish(plant(tmp_path / "train", tree), kind="dataset")
    one = followed(inputs={"train": train}, outputs=("model",))
    one.pod.cuts = [None, 300_000, None, 700_000, 10, None, 250_000]
    assert one.fetch().fetched
    assert leaves(one.pod.dla / "in" / "train") == tree
    one.stay()
    plant(one.pod.dla / "out" / "model", tree)
    one.pod.cuts = [None, None, 300_000, 500_000, 100_000, 900_000]
    published = one.publish().published
    assert published is not None
    store.fetch(published.outputs["model"].digest, tmp_path / "got")
    assert leaves(tmp_path / "got") == tree


def test_two_followers(followed: Callable[..., Followed], store: Exchange, tmp_path: Path) -> None:
    """Both may do everything; the second finds it done, or being done."""
    train = store.publish(plant(tmp_path / "train", {"x": bytes(1 << 20)}), kind="dataset")
    one = followed(inputs={"train": train}, outputs=("model",))
    told = one.follow("fetch", lambda told: told.wants)

    def again() -> None:
        one.pod.before_exec = lambda: None
        one.serve("fetch", told)

    one.pod.before_exec = again
    one.serve("fetch", told)
    assert one.fetch().fetched
    one.stay()
    plant(one.pod.dla / "out" / "model", {"w": b"1"})
    one.freight.tell(POD, "mate", "ended", {"succeeded": True, "hard": False})
    told = one.follow("mate", lambda told: told.offers)
    one.serve("mate", told)
    one.serve("mate", told)
    assert one.follow("mate", lambda told: told.published).published is not None


def test_memory_stays_flat(followed: Callable[..., Followed], store: Exchange, tmp_path: Path) -> None:
    """What goes through the follower is held a piece at a time."""
    with (plant(tmp_path / "train", {}) / "x").open("wb") as file:
        file.truncate(96 << 20)
    train = store.publish(tmp_path / "train", kind="dataset")
    one = followed(inputs={"train": train})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert one.fetch().fetched
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 << 10
    assert (one.pod.dla / "in" / "train" / "x").stat().st_size == 96 << 20


def test_kills_at_any_moment(followed: Callable[..., Followed], store: Exchange, tmp_path: Path) -> None:
    """Helpers are killed again and again: in the end everything is there once, and nothing half."""
    chance = random.Random(7)
    tree = {f"f{index}": chance.randbytes(300_000) for index in range(5)}
    train = store.publish(plant(tmp_path / "train", tree), kind="dataset")
    one = followed("job.1", inputs={"train": train}, outputs=("model",))

    def killed(container: str) -> None:
        deadline = time.monotonic() + chance.random() * 0.6
        while time.monotonic() < deadline and one.pod.ended(container) is None:
            told = one.told(container)
            if told is not None and told.waits:
                one.serve(container, told)
        if one.pod.ended(container) is None:
            one.pod.signal(container, signal.SIGKILL)
            one.pod.start(container)

    for _ in range(4):
        killed("fetch")
        arrived = one.pod.dla / "in" / "train"
        assert not arrived.exists() or leaves(arrived) == tree
    assert one.fetch().fetched
    one.stay()
    plant(one.pod.dla / "out" / "model", tree)
    (one.pod.control / "ended.json").write_text('{"succeeded": true, "hard": false}')
    for _ in range(4):
        killed("mate")
    published = one.follow("mate", lambda told: told.published).published
    assert published is not None
    store.fetch(published.outputs["model"].digest, tmp_path / "got")
    assert leaves(tmp_path / "got") == tree
    assert published.error is None


def _works(python: str) -> bool:
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
