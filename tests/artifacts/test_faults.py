"""Real faults: killed publishers, races, a full disk, a disk mounted read-only."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from contracts.store import leaves, plant

from airflow_dla.artifacts import Store
from airflow_dla.artifacts.backend import manifest_key
from airflow_dla.errors import NotFound, StoreUnavailable

_PUBLISHERS = Path(__file__).with_name("publishers.py")
_ROOT = Path(__file__).parents[2]


def run_publishers(mode: str, store: Path, scratch: Path) -> str:
    """Run the publishers' program to its end and return what it said."""
    command = [sys.executable, str(_PUBLISHERS), mode, str(store), str(scratch)]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def hidden(folder: Path) -> list[str]:
    """Return the names of what writers hide in a store."""
    return [path.name for path in (folder / "artifacts").glob(".*")]


def test_a_killed_publisher_leaves_nothing_half_visible(tmp_path: Path) -> None:
    """Whatever is visible verifies, every checkpoint can be fetched, and the next publication works."""
    ended = int(run_publishers("killed", tmp_path / "store", tmp_path / "scratch"))
    store = Store(str(tmp_path / "store"))
    published = [store.verify(found.digest) for found in store.digests()]
    assert ended < 20, "nobody was killed in time"
    assert len(published) >= 1
    assert all(len(manifest.files) == 12 for manifest in published)
    assert store.fetch_checkpoint("job", tmp_path / "in") == store.checkpoint("job")
    assert store.save_checkpoint("job", tmp_path / "scratch" / "20") == store.checkpoint("job")
    time.sleep(0.02)
    store.collect({}, {"job"}, grace_s=0)
    assert hidden(tmp_path / "store") == []
    assert len(list(store.digests())) == 2


def test_of_publishers_in_a_race_all_succeed_and_one_copy_stays(tmp_path: Path) -> None:
    """Equal bytes published by three processes at once are one artifact."""
    run_publishers("racing", tmp_path / "store", tmp_path / "scratch")
    store = Store(str(tmp_path / "store"))
    assert [len(store.verify(found.digest).files) for found in store.digests()] == [12] * 5
    assert hidden(tmp_path / "store") == []


def test_a_collection_beside_a_publisher_takes_nothing_that_was_just_published(tmp_path: Path) -> None:
    """An old artifact that is published again stays, whenever the collector looks."""
    store, source = Store(str(tmp_path / "store")), plant(tmp_path / "out", {"a": b"1"})
    digest = store.publish(source, kind="model").digest
    manifest = tmp_path / "store" / manifest_key(digest)
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            store.collect({}, ())

    pool = ThreadPoolExecutor(1)
    collector = pool.submit(collect)
    try:
        for _ in range(40):
            store.publish(source, kind="model")
            assert seen_within(store, digest, seconds=1.0)
            try:
                os.utime(manifest, (1, 1))
            except FileNotFoundError:
                pytest.fail("a fresh artifact was collected")
    finally:
        stop.set()
        collector.result()
        pool.shutdown()


def seen_within(store: Store, digest: str, *, seconds: float) -> bool:
    """Return whether an artifact is whole; the collector may hold it for a moment to look again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            return store.verify(digest).digest == digest
        except NotFound:
            time.sleep(0.001)
    return False


def mount(*arguments: str) -> None:
    """Mount, or skip the test where that is not allowed."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a file system of its own here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of 1 MiB; root only."""
    if os.geteuid():
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk))
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_said_and_leaves_nothing(small_disk: Path, tmp_path: Path) -> None:
    """The message names the path, what is left and what to do; the space is free again."""
    store = Store(str(small_disk / "store"))
    kept = store.publish(plant(tmp_path / "1", {"a": b"1"}), kind="model")
    large = plant(tmp_path / "2", {"a": b"1", "b": bytes(2 << 20)})
    free = os.statvfs(small_disk).f_bfree
    with pytest.raises(StoreUnavailable, match=rf"{small_disk}/store.*No space left.*\d MiB left.*airflow dla artifacts gc"):
        store.publish(large, kind="model")
    assert hidden(small_disk / "store") == []
    assert os.statvfs(small_disk).f_bfree == free
    assert [found.digest for found in store.digests()] == [kept.digest]
    with pytest.raises(StoreUnavailable, match="No space left"):
        store.save_checkpoint("job", large)
    assert store.checkpoint("job") is None


def test_a_full_disk_fails_the_check(small_disk: Path) -> None:
    """The doctor sees it before a job does."""
    (small_disk / "filler").write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize))
    with pytest.raises(StoreUnavailable, match="No space left"):
        Store(str(small_disk / "store")).check()


def test_a_read_only_disk_is_said_and_can_be_read(small_disk: Path, tmp_path: Path) -> None:
    """Publishing, saving and checking fail with the path and the way out; fetching works."""
    store = Store(str(small_disk / "store"))
    digest = store.publish(plant(tmp_path / "1", {"a": b"1"}), kind="model").digest
    mount("-o", "remount,ro", str(small_disk))
    attempts = [
        store.check,
        lambda: store.publish(plant(tmp_path / "2", {"a": b"2"}), kind="model"),
        lambda: store.save_checkpoint("job", tmp_path / "1"),
        lambda: store.collect({}, ()),
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnavailable, match=rf"{small_disk}/store.*Read-only file system.*mount it writable"):
            attempt()
    store.fetch(digest, tmp_path / "in")
    assert leaves(tmp_path / "in") == {"a": b"1"}


@pytest.fixture
def not_root() -> Iterator[int]:
    """Be a user who is not root, and return its id; root may write anywhere."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield os.geteuid()
    os.seteuid(before)


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """Return a folder that everybody may read and nobody may write."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        yield Path(folder)


def test_a_folder_without_rights_is_said(closed_folder: Path, not_root: int) -> None:
    """The message says which user may not."""
    with pytest.raises(StoreUnavailable, match=f"user id {not_root} may not"):
        Store(str(closed_folder / "store")).check()


def test_a_store_in_a_file_is_said(tmp_path: Path) -> None:
    """Somebody wrote a file where the folder should be."""
    (tmp_path / "store").touch()
    with pytest.raises(StoreUnavailable, match="check that it is mounted"):
        Store(str(tmp_path / "store")).check()
