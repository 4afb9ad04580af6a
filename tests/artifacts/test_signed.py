"""Single files for those who may not open the store: signed addresses on a real S3 API, and bytes by hand."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from contracts.store import damage, leaves, plant
from fixtures_s3 import KEY, SECRET
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_dla.artifacts import Exchange, Manifest
from airflow_dla.artifacts.exchange import LARGEST_WRITE
from airflow_dla.artifacts.signed import sign
from airflow_dla.errors import CorruptArtifact, InvalidSpec, NotFound, StoreUnavailable
from airflow_dla.specs import UriRef


@pytest.fixture
def s3(s3_url: str, s3_options: dict[str, Any]) -> Exchange:
    """Return a store in an object store."""
    return Exchange(s3_url, options=s3_options)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Exchange:
    """Return stores that cannot sign."""
    return Exchange(str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path.name}-{request.param}")


def drafted(store: Exchange, files: Mapping[str, bytes], kind: str = "model") -> Manifest:
    """Return the manifest of some files."""
    entries = [{"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()]
    return store.draft(kind=kind, files=entries)


def send(link: Mapping[str, Any], data: bytes | None = None) -> bytes:
    """Use an address as one does who knows nothing else."""
    request = urllib.request.Request(link["url"], data=data, method="GET" if data is None else "PUT")
    request.add_unredirected_header("Content-type", "")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


class TestOnS3:
    """Addresses."""

    def test_reads(self, s3: Exchange, tmp_path: Path) -> None:
        """Each file of an artifact has one, whatever it is called, and no credential is in it."""
        tree = {"a b": b"1", "größe": {"c?d#e%f": b"22"}, "empty": b""}
        digest = s3.publish(plant(tmp_path / "out", tree), kind="dataset").digest
        links = s3.signed_reads(digest)
        assert {path: send(link) for path, link in links.items()} == {"a b": b"1", "größe/c?d#e%f": b"22", "empty": b""}
        assert not any(SECRET in link["url"] for link in links.values())
        assert all("Expires" in link["url"] for link in links.values())

    def test_writes(self, s3: Exchange, tmp_path: Path) -> None:
        """What is written to addresses is published when the manifest is, and not before."""
        files = {"w": b"1" * 100, "sub/größe": b"2"}
        manifest = drafted(s3, files)
        links = s3.signed_writes(manifest)
        assert set(links) == set(files)
        send(links["w"], files["w"])
        assert not s3.exists(manifest.digest)
        assert set(s3.signed_writes(manifest)) == {"sub/größe"}
        with pytest.raises(StoreUnavailable, match="files of it are not in"):
            s3.receive(manifest)
        assert s3.published(manifest) is None
        send(links["sub/größe"], files["sub/größe"])
        reference = s3.receive(manifest)
        s3.fetch(reference.digest, tmp_path / "got")
        assert leaves(tmp_path / "got") == files
        assert s3.published(manifest) == reference
        assert s3.signed_writes(manifest) == {}

    def test_of_another_size(self, s3: Exchange) -> None:
        """A file of another size is not the one that was offered."""
        manifest = drafted(s3, {"w": b"12"})
        send(s3.signed_writes(manifest)["w"], b"1")
        with pytest.raises(StoreUnavailable, match=r"have them sent again"):
            s3.receive(manifest)

    def test_some_by_hand(self, s3: Exchange, tmp_path: Path) -> None:
        """Bytes may come both ways."""
        files = {"a": b"1", "b": b"2"}
        manifest = drafted(s3, files)
        send(s3.signed_writes(manifest)["a"], b"1")
        missing = [entry.path for entry in s3.missing(manifest)]
        s3.fetch(s3.receive(manifest, [(path, [files[path]]) for path in missing]).digest, tmp_path / "got")
        assert (missing, leaves(tmp_path / "got")) == (["b"], files)

    def test_no_secret_is_said(self, s3_url: str, s3_options: dict[str, Any]) -> None:
        """Neither by an address that could not be made, nor by a store that does not answer."""
        nowhere = {
            "client_kwargs": {"endpoint_url": "http://127.0.0.1:9", "region_name": "r"},
            "config_kwargs": {"retries": {"total_max_attempts": 1}},
        }
        broken = Exchange(s3_url, options={**s3_options, **nowhere})
        with pytest.raises(StoreUnavailable) as raised:
            broken.missing(drafted(broken, {"w": b"1"}))
        assert KEY not in str(raised.value)
        assert SECRET not in str(raised.value)
        assert SECRET not in repr(broken)

    def test_too_large_for_one_request(self, s3: Exchange) -> None:
        """Such a file goes through us, in parts."""
        entry = {"path": "w", "size": LARGEST_WRITE + 1, "sha256": "0" * 64}
        manifest = s3.draft(kind="model", files=[entry])
        assert s3.signed_writes(manifest) == {}
        assert [entry.path for entry in s3.missing(manifest)] == ["w"]


class Signing:
    """A file system that signs, and remembers what it was told."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol

    def sign(self, path: str, expiration: int, **told: Any) -> str:
        """Sign."""
        return f"https://store/{path}?{expiration}&{told}"


@pytest.mark.parametrize(
    ("protocol", "read", "write"),
    [
        (("gs", "gcs"), {"method": "GET", "version": "v4"}, {"method": "PUT", "version": "v4"}),
        (("s3", "s3a"), {"client_method": "get_object"}, {"client_method": "put_object"}),
        ("abfs", {}, None),
        ("sftp", None, None),
    ],
)
def test_what_each_library_is_told(protocol: Any, read: Any, write: Any) -> None:
    """By its own words; none where it has no word for it."""
    for writes, told in ((False, read), (True, write)):
        expected = None if told is None else {"url": f"https://store/b/k?60&{told}"}
        assert sign(Signing(protocol), "b/k", write=writes, expires_s=60) == expected


def test_credentials_that_cannot_sign() -> None:
    """Then the bytes go through us."""

    class Refusing(Signing):
        def sign(self, path: str, expiration: int, **told: Any) -> str:
            raise AttributeError("you need a private key to sign credentials")

    assert sign(Refusing("gs"), "b/k", write=False) is None


class TestByHand:
    """Bytes, without any address."""

    def test_no_addresses(self, store: Exchange, tmp_path: Path) -> None:
        """A folder has none."""
        digest = store.publish(plant(tmp_path / "out", {"a": b"1"}), kind="model").digest
        assert store.signed_reads(digest) == {}
        assert store.signed_writes(drafted(store, {"b": b"1"})) == {}

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        files=st.dictionaries(st.sampled_from(["a", "b/c", "b/d", "ü"]), st.lists(st.binary(max_size=20), max_size=4), min_size=1),
        meant=st.booleans(),
    )
    def test_what_was_offered_is_published(self, store: Exchange, tmp_path: Path, files: dict[str, list[bytes]], meant: bool) -> None:
        """In whatever pieces it comes; other bytes of the same size are not."""
        whole = {path: b"".join(pieces) for path, pieces in files.items()}
        manifest = drafted(store, whole if meant else {path: data[::-1] + b"!" for path, data in whole.items()})
        if not meant:
            with pytest.raises(CorruptArtifact, match="damaged on its way"):
                store.receive(manifest, files.items())
            assert store.published(manifest) is None
            return
        reference = store.receive(manifest, files.items())
        assert {entry.path: b"".join(store.pieces(reference.digest, entry)) for entry in manifest.files} == whole
        assert store.missing(manifest) == ()

    def test_the_same_size_and_other_bytes(self, store: Exchange) -> None:
        """They are nowhere afterwards, so that they are asked for again."""
        manifest = drafted(store, {"w": b"12"})
        with pytest.raises(CorruptArtifact):
            store.receive(manifest, [("w", [b"1", b"x"])])
        assert [entry.path for entry in store.missing(manifest)] == ["w"]

    def test_a_stream_that_breaks(self, store: Exchange) -> None:
        """Nothing is published, and what comes again is taken."""
        manifest = drafted(store, {"a": b"1", "b": b"2"})

        def breaking() -> Any:
            yield "a", [b"1"]
            raise StoreUnavailable("the way broke")

        with pytest.raises(StoreUnavailable, match="the way broke"):
            store.receive(manifest, breaking())
        assert not store.exists(manifest.digest)
        left = [entry.path for entry in store.missing(manifest)]
        data = {"a": [b"1"], "b": [b"2"]}
        assert store.exists(store.receive(manifest, [(path, data[path]) for path in left]).digest)

    def test_a_damaged_file(self, store: Exchange, tmp_path: Path) -> None:
        """It is found out when its last piece was taken."""
        digest = store.publish(plant(tmp_path / "out", {"a": b"1"}), kind="model").digest
        damage(store, digest, "a", b"2")
        with pytest.raises(CorruptArtifact, match="files/a has sha256"):
            list(store.pieces(digest, store.manifest(digest).files[0]))

    def test_a_lost_file(self, store: Exchange, tmp_path: Path) -> None:
        """It is named."""
        digest = store.publish(plant(tmp_path / "out", {"a": b"1"}), kind="model").digest
        damage(store, digest, "a", None)
        with pytest.raises(CorruptArtifact, match="files/a is missing"):
            list(store.pieces(digest, store.manifest(digest).files[0]))

    def test_what_cannot_be_published(self, store: Exchange) -> None:
        """A path that leads out of the artifact."""
        with pytest.raises(InvalidSpec, match="must stay inside"):
            drafted(store, {"../a": b""})

    def test_checkpoints(self, store: Exchange) -> None:
        """What arrived becomes the newest."""
        reference = store.receive(drafted(store, {"s": b"1"}, kind="checkpoint"), [("s", [b"1"])])
        store.keep_checkpoint("job", reference)
        assert store.checkpoint("job") == reference


def test_outside(tmp_path: Path) -> None:
    """A file or a folder, by path; another key when it changes; what was pinned must be there."""
    folder = plant(tmp_path / "far", {"a": b"1", "b": {"c": b""}})
    exchange = Exchange(str(tmp_path / "store"))
    found = exchange.outside(UriRef(uri=f"file://{folder}", mode="copy"))
    assert found.sizes == {"a": 1, "b/c": 0}
    assert list(found.pieces("a")) == [b"1"]
    assert exchange.outside(UriRef(uri=f"file://{folder}/a")).sizes == {"a": 1}
    plant(folder, {"a": b"22"})
    assert exchange.outside(UriRef(uri=f"file://{folder}")).key != found.key
    with pytest.raises(CorruptArtifact, match="changed since it was pinned"):
        exchange.outside(UriRef(uri=f"file://{folder}/a", pin={"size": 1}))
    with pytest.raises(NotFound, match="does not exist"):
        exchange.outside(UriRef(uri=f"file://{folder}/gone"))
