"""The laws of a store, in a folder, in memory, and in a folder seen through fsspec."""

from __future__ import annotations

import importlib.util
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from contracts.store import HOUR, StoreContract, fresh, plant
from fsspec.implementations.memory import MemoryFileSystem

from airflow_dla.artifacts import Manifest, Store
from airflow_dla.artifacts.backend import artifact_key, file_key, manifest_key
from airflow_dla.artifacts.objects import ObjectBackend
from airflow_dla.artifacts.tree import scan
from airflow_dla.errors import CorruptArtifact, InvalidSpec, MissingExtra, SecretExposed, StoreUnavailable


def make_old(path: Path, seconds: float) -> None:
    """Set a file's time back."""
    os.utime(path, (time.time() - seconds,) * 2)


class TestInFolder(StoreContract):
    """The default."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """Return an empty store."""
        return Store(str(tmp_path / "store"))

    def age(self, store: Store, key: str, seconds: float) -> None:
        """Make a file so many seconds old."""
        make_old(Path(store.url.removeprefix("file://"), key), seconds)

    def test_every_spelling_is_one_store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The URL is part of a workspace's fingerprint."""
        monkeypatch.chdir(tmp_path)
        spellings = ["s", f"{tmp_path}/s/", f"file://{tmp_path}/s", f"{tmp_path}/x/../s"]
        assert {Store(url).url for url in spellings} == {f"file://{tmp_path}/s"}

    def test_files_are_plain_and_read_only(self, store: Store, tmp_path: Path) -> None:
        """Readable without us, writable by nobody, folders too."""
        digest = store.publish(plant(tmp_path / "out", {"sub": {"a": b"1"}}), kind="model").digest
        folder = store.folder(digest)
        assert folder is not None
        assert (folder / "sub" / "a").read_bytes() == b"1"
        assert [path.stat().st_mode & 0o777 for path in (folder, folder / "sub", folder / "sub" / "a")] == [0o555, 0o555, 0o444]

    def test_fetching_copies_nothing(self, store: Store, tmp_path: Path) -> None:
        """A job gets links, whatever the size."""
        digest = store.publish(plant(tmp_path / "out", {"a": b"1"}), kind="model").digest
        store.fetch(digest, tmp_path / "in")
        assert (tmp_path / "in" / "a").readlink() == (store.folder(digest) or tmp_path) / "a"

    def test_a_write_through_a_link_is_found_out(self, store: Store, tmp_path: Path) -> None:
        """Root can write anywhere: the next reader notices."""
        digest = store.publish(plant(tmp_path / "out", {"a": b"1"}), kind="model").digest
        store.fetch(digest, tmp_path / "in")
        (tmp_path / "in" / "a").chmod(0o644)
        (tmp_path / "in" / "a").write_bytes(b"2")
        with pytest.raises(CorruptArtifact, match="files/a has sha256"):
            store.fetch(digest, tmp_path / "in2")

    def test_leftovers_are_swept_when_old(self, store: Store, tmp_path: Path) -> None:
        """Hidden folders of killed writers go after the grace, not before."""
        root = Path(store.url.removeprefix("file://"))
        plant(root / "artifacts" / ".tmp-dead" / "files", {"a": b"12345"})
        headless = root / artifact_key("sha256:" + "ab" * 32)
        plant(headless / "files", {"a": b"1"})
        assert store.collect({}, ()).bytes == 0
        time.sleep(0.02)
        assert store.collect({}, (), grace_s=0).bytes == 6
        assert [path.name for path in (root / "artifacts").iterdir()] == ["ab"]
        assert not headless.exists()

    def test_a_writer_whose_folder_was_swept_publishes_nothing(self, store: Store, tmp_path: Path) -> None:
        """One that slept past the grace fails as a whole."""
        backend = store._backend
        files = scan(plant(tmp_path / "out", {"a": b"1"}))

        def seal_late(entries: Any) -> Any:
            for key in backend.leftovers(before=time.time() + 1):
                backend.delete(key)
            return Manifest(kind="model", files=tuple(entries))

        with pytest.raises(FileNotFoundError):
            backend.put(files, seal_late)
        assert list(store.digests()) == []


class TestInMemory(StoreContract):
    """An object store that needs no server."""

    @pytest.fixture
    def store(self) -> Store:
        """Return an empty store."""
        return Store(f"memory://store{next(fresh)}/x/")

    def age(self, store: Store, key: str, seconds: float) -> None:
        """Make a file so many seconds old."""
        path = f"/{store.url.removeprefix('memory://')}/{key}"
        MemoryFileSystem.store[path].created = datetime.now(UTC) - timedelta(seconds=seconds)

    def test_there_is_no_local_folder(self, store: Store) -> None:
        """Whoever wants to mount one must fetch."""
        assert store.folder("sha256:" + "0" * 64) is None

    def test_an_interrupted_upload_is_invisible_and_swept_in_a_day(self, store: Store, tmp_path: Path) -> None:
        """Files without a manifest are no artifact; a slow writer gets a day."""
        digest = self.old(store, tmp_path / "1", b"12345")
        store._backend.delete(manifest_key(digest))
        assert not store.exists(digest)
        self.age(store, file_key(digest, "f"), 20 * HOUR)
        assert store.collect({}, ()).bytes == 0
        self.age(store, file_key(digest, "f"), 30 * HOUR)
        assert store.collect({}, ()).bytes == 5


class TestThroughFsspec(StoreContract):
    """A file system with real folders, by the path that SFTP and SMB take."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """Return an empty store."""
        store = Store(f"dir::file://{tmp_path}/store")
        assert isinstance(store._backend, ObjectBackend)
        return store

    def age(self, store: Store, key: str, seconds: float) -> None:
        """Make a file so many seconds old."""
        backend: Any = store._backend
        make_old(Path(backend._fs._join(backend._at(key))), seconds)


class Leaky(MemoryFileSystem):
    """An object store whose client says too much, and never works."""

    protocol = "leaky"
    cachable = False

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError(f"denied for {self.options}")

    cat_file = open = ls = find = info = rm = _fail


def test_credentials_are_never_repeated(tmp_path: Path) -> None:
    """Neither by the store nor by the errors of its client, at any depth."""
    fsspec.register_implementation("leaky", Leaky, clobber=True)
    store = Store("leaky://bucket", options={"key": "AKIA1", "client_kwargs": {"token": "hunter2"}})
    plant(tmp_path / "out", {"a": b"1"})
    attempts = [
        store.check,
        lambda: store.publish(tmp_path / "out", kind="model"),
        lambda: store.collect({}, ()),
        lambda: store.checkpoint("j"),
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnavailable, match=r"denied for .*\*\*\*") as caught:
            attempt()
        assert "AKIA1" not in str(caught.value)
        assert "hunter2" not in f"{caught.value}{store!r}{vars(caught.value)}"
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_a_password_in_the_url_is_refused() -> None:
    """The message does not repeat it."""
    with pytest.raises(SecretExposed) as caught:
        Store("s3://key:hunter2@bucket/x")
    assert "hunter2" not in str(caught.value)


def test_an_unknown_protocol_is_refused() -> None:
    """The message says what would do."""
    with pytest.raises(InvalidSpec, match="s3://"):
        Store("gopher://x")


def test_a_missing_client_names_its_package() -> None:
    """Fsspec knows which package speaks a protocol."""
    if importlib.util.find_spec("dropboxdrivefs"):
        pytest.skip("the package is installed")
    with pytest.raises(MissingExtra, match="dropbox"):
        Store("dropbox://x")


def test_a_file_that_changes_while_it_is_uploaded_is_refused(tmp_path: Path) -> None:
    """An object store is hashed first and uploaded after: both must see the same bytes."""
    store = Store(f"memory://store{next(fresh)}")
    source = plant(tmp_path / "out", {"a": b"1"})
    backend: Any = store._backend
    files = scan(source)

    def seal(entries: Any) -> Any:
        (source / "a").write_bytes(b"2")
        return Manifest(kind="model", files=tuple(entries))

    with pytest.raises(InvalidSpec, match="it changed meanwhile"):
        backend.put(files, seal)
    assert list(store.digests()) == []
