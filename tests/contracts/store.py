"""What every `Store` does, wherever it lies. Subclass it and make the fixture ``store``."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_dla.artifacts import Manifest, Store
from airflow_dla.artifacts.backend import artifact_key, file_key, manifest_key
from airflow_dla.errors import CorruptArtifact, InvalidSpec, NotFound

NOWHERE = "sha256:" + "0" * 64
HOUR = 3600.0

_names = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=12).filter(
    lambda name: name not in {".", ".."}
)
_trees = st.recursive(
    st.dictionaries(_names, st.binary(max_size=64), min_size=1, max_size=3),
    lambda inner: st.dictionaries(_names, st.binary(max_size=64) | inner, min_size=1, max_size=3),
    max_leaves=6,
)
#: A store may be used for many examples, and each subclass has its own.
_SAFE = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
_unhurried = settings(max_examples=10, deadline=None, suppress_health_check=_SAFE)


def plant(folder: Path, tree: dict) -> Path:
    """Write a tree of bytes below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tree.items():
        if isinstance(content, dict):
            plant(folder / name, content)
        else:
            (folder / name).write_bytes(content)
    return folder


def leaves(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, links followed."""
    found = [Path(top, name) for top, _, names in os.walk(folder) for name in names]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def damage(store: Store, digest: str, path: str, data: bytes | None) -> None:
    """Replace the bytes of a published file, or lose it; as its owner can, who gives himself the rights."""
    folder = store.folder(digest)
    for place, _, _ in os.walk(folder or "/nowhere"):
        Path(place).chmod(0o755)
    if data is None:
        store._backend.delete(file_key(digest, path))
    else:
        store._backend.write(file_key(digest, path), data)


class StoreContract:
    """The laws of a store."""

    def age(self, store: Store, key: str, seconds: float) -> None:
        """Make a file of the store so many seconds old."""
        raise NotImplementedError

    def old(self, store: Store, folder: Path, content: bytes, kind: str = "model") -> str:
        """Publish something and make it a day old."""
        digest = store.publish(plant(folder, {"f": content}), kind=kind).digest
        self.age(store, manifest_key(digest), 24 * HOUR)
        return digest

    # Publish and fetch

    @_unhurried
    @given(tree=_trees)
    def test_what_is_published_is_what_is_fetched(self, store: Store, tree: dict) -> None:
        """Any tree of files, any names, any bytes; published again it is the same artifact."""
        with tempfile.TemporaryDirectory() as scratch:
            source = plant(Path(scratch, "out"), tree)
            reference = store.publish(source, kind="dataset")
            store.fetch(reference.digest, Path(scratch, "in"))
            assert leaves(Path(scratch, "in")) == leaves(source)
            assert store.publish(Path(scratch, "in"), kind="dataset") == reference if store.folder(NOWHERE) is None else True
            assert store.verify(reference.digest).size == reference.size == sum(map(len, leaves(source).values()))

    def test_the_manifest_is_canonical_and_the_digest_is_its_hash(self, store: Store, tmp_path: Path) -> None:
        """Anybody can check an artifact with ``sha256sum``."""
        reference = store.publish(plant(tmp_path / "out", {"b": b"2", "a": {"ü": b"1"}}), kind="model", meta={"seed": 7})
        data = store._backend.read(manifest_key(reference.digest))
        assert reference.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert json.loads(data) == {
            "files": [
                {"path": "a/ü", "sha256": hashlib.sha256(b"1").hexdigest(), "size": 1},
                {"path": "b", "sha256": hashlib.sha256(b"2").hexdigest(), "size": 1},
            ],
            "kind": "model",
            "meta": {"seed": 7},
            "protocol": 1,
        }
        assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()

    def test_times_and_order_do_not_matter(self, store: Store, tmp_path: Path) -> None:
        """The digest says what the bytes are, not when and how they were written."""
        first = store.publish(plant(tmp_path / "1", {"a": b"1", "b": b"2"}), kind="model")
        os.utime(plant(tmp_path / "2", {"b": b"2", "a": b"1"}) / "a", (1, 1))
        assert store.publish(tmp_path / "2", kind="model") == first
        assert len(list(store.digests())) == 1

    def test_kind_and_meta_do_matter(self, store: Store, tmp_path: Path) -> None:
        """The same bytes meant otherwise are another artifact."""
        folder = plant(tmp_path / "out", {"a": b"1"})
        made = {store.publish(folder, kind=kind, meta=meta).digest for kind, meta in [("a", {}), ("b", {}), ("a", {"x": 1})]}
        assert len(made) == 3

    def test_a_program_can_still_be_run_after_fetching(self, store: Store, tmp_path: Path) -> None:
        """Code folders hold scripts."""
        folder = plant(tmp_path / "out", {"run.sh": b"#!/bin/sh\n", "data": b""})
        (folder / "run.sh").chmod(0o755)
        digest = store.publish(folder, kind="code").digest
        store.fetch(digest, tmp_path / "in")
        assert os.access(tmp_path / "in" / "run.sh", os.X_OK)
        assert [entry.executable for entry in store.manifest(digest).files] == [False, True]
        assert not (tmp_path / "in" / "data").stat().st_mode & 0o111

    def test_what_is_fetched_cannot_be_written(self, store: Store, tmp_path: Path) -> None:
        """Inputs are shared; nobody has the right to write."""
        digest = store.publish(plant(tmp_path / "out", {"a": b"1"}), kind="model").digest
        store.fetch(digest, tmp_path / "in")
        assert (tmp_path / "in" / "a").stat().st_mode & 0o777 == 0o444

    def test_fetch_wants_a_place_of_its_own(self, store: Store, tmp_path: Path) -> None:
        """An empty folder will do; one that holds something is left as it is."""
        digest = store.publish(plant(tmp_path / "out", {"a": b"1"}), kind="model").digest
        (tmp_path / "in").mkdir()
        store.fetch(digest, tmp_path / "in")
        with pytest.raises(InvalidSpec, match="something is there"):
            store.fetch(digest, tmp_path / "in")
        assert leaves(tmp_path / "in") == {"a": b"1"}

    def test_a_link_inside_stands_for_its_file(self, store: Store, tmp_path: Path) -> None:
        """``last.ckpt -> step9.ckpt`` is common; it becomes a file."""
        folder = plant(tmp_path / "out", {"step9": b"9"})
        (folder / "last").symlink_to("step9")
        store.fetch(store.publish(folder, kind="model").digest, tmp_path / "in")
        assert leaves(tmp_path / "in") == {"step9": b"9", "last": b"9"}

    # Refusals

    def test_an_empty_folder_is_refused(self, store: Store, tmp_path: Path) -> None:
        """An output that was never written is a mistake of the job."""
        with pytest.raises(InvalidSpec, match="holds no file"):
            store.publish(plant(tmp_path / "out", {"empty": {}}), kind="model")

    def test_a_missing_folder_and_a_file_are_refused(self, store: Store, tmp_path: Path) -> None:
        """The message says which of the two it is."""
        with pytest.raises(NotFound, match="no such folder"):
            store.publish(tmp_path / "none", kind="model")
        plant(tmp_path, {"file": b""})
        with pytest.raises(InvalidSpec, match="it is a file"):
            store.publish(tmp_path / "file", kind="model")

    @pytest.mark.parametrize("target", ["/etc/hostname", "../secret", "nowhere", "folder"])
    def test_a_link_to_elsewhere_is_refused(self, store: Store, tmp_path: Path, target: str) -> None:
        """Neither secrets nor dangling names nor whole trees enter by a link."""
        plant(tmp_path, {"secret": b"s"})
        folder = plant(tmp_path / "out", {"a": b"1", "folder": {"b": b"2"}})
        (folder / "link").symlink_to(target)
        with pytest.raises(InvalidSpec, match="symbolic link"):
            store.publish(folder, kind="model")

    def test_what_is_no_file_is_refused(self, store: Store, tmp_path: Path) -> None:
        """A named pipe would hang whoever reads it."""
        os.mkfifo(plant(tmp_path / "out", {"a": b"1"}) / "pipe")
        with pytest.raises(InvalidSpec, match="no regular file"):
            store.publish(tmp_path / "out", kind="model")

    def test_a_name_that_is_not_utf8_is_refused(self, store: Store, tmp_path: Path) -> None:
        """Manifests are JSON."""
        folder = plant(tmp_path / "out", {"a": b"1"})
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).touch()
        with pytest.raises(InvalidSpec, match="must be UTF-8"):
            store.publish(folder, kind="model")

    @pytest.mark.parametrize(("kind", "meta"), [("a model", {}), ("model", {"x": float("nan")}), ("model", {"x": object()})])
    def test_bad_kind_and_meta_are_refused(self, store: Store, tmp_path: Path, kind: str, meta: dict) -> None:
        """Before anything is copied."""
        with pytest.raises(InvalidSpec):
            store.publish(plant(tmp_path / "out", {"a": b"1"}), kind=kind, meta=meta)
        assert list(store.digests()) == []

    @pytest.mark.parametrize("digest", ["", "sha256:12", "../../etc", "sha256:" + "Z" * 64])
    def test_a_digest_that_is_none_is_refused(self, store: Store, digest: str) -> None:
        """It never becomes a path."""
        with pytest.raises(InvalidSpec):
            store.manifest(digest)

    @pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a//b", ""])
    def test_a_manifest_that_points_outside_is_refused(self, store: Store, tmp_path: Path, path: str) -> None:
        """Also when its digest is right: somebody made it on purpose."""
        written = {"files": [{"path": path, "sha256": "0" * 64, "size": 0}], "kind": "model", "meta": {}, "protocol": 1}
        data = json.dumps(written, sort_keys=True, separators=(",", ":")).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        store._backend.write(manifest_key(digest), data)
        with pytest.raises(InvalidSpec, match="inside the artifact"):
            store.fetch(digest, tmp_path / "in")

    def test_a_manifest_of_a_later_release_is_refused(self, store: Store) -> None:
        """The message says what to upgrade."""
        written = {"files": [{"path": "a", "sha256": "0" * 64, "size": 0}], "kind": "model", "meta": {}, "protocol": 2}
        data = json.dumps(written).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        store._backend.write(manifest_key(digest), data)
        with pytest.raises(InvalidSpec, match="upgrade"):
            store.manifest(digest)

    # Damage

    def test_what_is_not_there_is_not_found(self, store: Store, tmp_path: Path) -> None:
        """Reading, fetching and verifying say so alike."""
        assert not store.exists(NOWHERE)
        for read in (store.manifest, store.verify, lambda digest: store.fetch(digest, tmp_path / "in")):
            with pytest.raises(NotFound, match=NOWHERE):
                read(NOWHERE)
        assert not (tmp_path / "in").exists()

    @pytest.mark.parametrize(("data", "found"), [(b"0123456780", "sha256"), (b"01234", "5 bytes, expected 10"), (None, "missing")])
    def test_damage_is_found_and_named(self, store: Store, tmp_path: Path, data: bytes | None, found: str) -> None:
        """A flipped bit, a truncated and a lost file: no job ever sees them."""
        digest = store.publish(plant(tmp_path / "out", {"a": b"1", "sub": {"b": b"0123456789"}}), kind="model").digest
        damage(store, digest, "sub/b", data)
        for read in (store.verify, lambda digest: store.fetch(digest, tmp_path / "in")):
            with pytest.raises(CorruptArtifact, match=rf"{digest}.*files/sub/b.*{found}.*clear the task"):
                read(digest)
        assert [path.name for path in tmp_path.iterdir() if path.name not in {"out", "store"}] == []

    def test_a_damaged_manifest_is_found(self, store: Store, tmp_path: Path) -> None:
        """It does not exist for those who ask, and is listed for those who clean up."""
        digest = store.publish(plant(tmp_path / "out", {"a": b"1"}), kind="model").digest
        store._backend.write(manifest_key(digest), b'{"files": [')
        with pytest.raises(CorruptArtifact, match=r"manifest\.json"):
            store.manifest(digest)
        assert not store.exists(digest)
        assert [(found.digest, found.kind) for found in store.digests()] == [(digest, "unreadable")]

    def test_a_file_that_was_added_is_found(self, store: Store, tmp_path: Path) -> None:
        """A mounted artifact holds what was published and nothing else."""
        digest = store.publish(plant(tmp_path / "out", {"a": b"1"}), kind="model").digest
        damage(store, digest, "b", b"2")
        with pytest.raises(CorruptArtifact, match="files/b is there"):
            store.verify(digest)

    @pytest.mark.parametrize("broken", ["a", "manifest.json"])
    def test_publishing_again_repairs(self, store: Store, tmp_path: Path, broken: str) -> None:
        """The way out that the message names is one."""
        digest = store.publish(plant(tmp_path / "out", {"a": b"1", "b": b"2"}), kind="model").digest
        damage(store, digest, "a", b"") if broken == "a" else store._backend.write(manifest_key(digest), b"{")
        store.publish(tmp_path / "out", kind="model")
        assert store.verify(digest).kind == "model"

    # Checkpoints

    def test_the_newest_checkpoint_and_one_more_are_kept(self, store: Store, tmp_path: Path) -> None:
        """Older pointers go; another job's are not touched."""
        saved = [store.save_checkpoint("job1", plant(tmp_path / str(n), {"step": str(n).encode()})) for n in range(12)]
        other = store.save_checkpoint("job2", tmp_path / "0")
        assert store.checkpoint("job1") == saved[-1]
        assert store.checkpoints("job1") == (saved[-1], saved[-2])
        assert store.checkpoint("job2") == other
        assert store._backend.names("checkpoints/job1") == ["00000011.json", "00000012.json"]

    def test_saving_the_same_bytes_again_keeps_the_one_to_fall_back_to(self, store: Store, tmp_path: Path) -> None:
        """A job that saves twice without a step in between does not lose its last but one."""
        first, second = (store.save_checkpoint("job1", plant(tmp_path / n, {"a": n.encode()})) for n in "12")
        assert store.save_checkpoint("job1", tmp_path / "2") == second
        assert store.checkpoints("job1") == (second, first)

    def test_a_job_without_checkpoints_has_none(self, store: Store, tmp_path: Path) -> None:
        """Neither before the first nor after they were dropped; dropping twice is once."""
        assert store.checkpoint("job1") is None
        store.save_checkpoint("job1", plant(tmp_path / "out", {"a": b"1"}))
        store.drop_checkpoints("job1")
        store.drop_checkpoints("job1")
        assert store.checkpoint("job1") is None

    @pytest.mark.parametrize("torn", [b"", b'{"digest": "sha', b"[]", b'{"digest": "x", "size": 1}'])
    def test_a_torn_pointer_falls_back(self, store: Store, tmp_path: Path, torn: bytes) -> None:
        """The checkpoint before it is good, and the next one gets a higher number."""
        first = store.save_checkpoint("job1", plant(tmp_path / "1", {"a": b"1"}))
        store._backend.write("checkpoints/job1/00000002.json", torn)
        assert store.checkpoint("job1") == first
        assert store.save_checkpoint("job1", plant(tmp_path / "2", {"a": b"2"})) == store.checkpoint("job1")

    def test_a_corrupt_checkpoint_falls_back(self, store: Store, tmp_path: Path) -> None:
        """Fetching takes the newest that is whole, and None when none is."""
        first, second = (store.save_checkpoint("job1", plant(tmp_path / n, {"a": n.encode()})) for n in "12")
        damage(store, second.digest, "a", b"")
        assert store.fetch_checkpoint("job1", tmp_path / "in") == first
        assert leaves(tmp_path / "in") == {"a": b"1"}
        damage(store, first.digest, "a", b"")
        assert store.fetch_checkpoint("job1", tmp_path / "in2") is None

    @pytest.mark.parametrize("job", ["", "../x", "a/b"])
    def test_a_job_id_is_a_name(self, store: Store, job: str) -> None:
        """It never becomes a path to elsewhere."""
        with pytest.raises(InvalidSpec):
            store.checkpoint(job)

    # Collection

    def test_collection_deletes_what_is_old_and_unnamed(self, store: Store, tmp_path: Path) -> None:
        """Roots stay, the young stay, and each says why."""
        old, root = self.old(store, tmp_path / "1", b"1234"), self.old(store, tmp_path / "2", b"2")
        young = store.publish(plant(tmp_path / "3", {"f": b"3"}), kind="model").digest
        collected = store.collect({root: "model digits@3"}, ())
        assert collected.deleted == (old,)
        assert collected.kept == {root: "model digits@3", young: "published a moment ago"}
        assert collected.bytes > 4
        assert [store.exists(digest) for digest in (old, root, young)] == [False, True, True]
        assert store._backend.names(artifact_key(old)) == []

    def test_a_dry_run_deletes_nothing(self, store: Store, tmp_path: Path) -> None:
        """And says the same."""
        old = self.old(store, tmp_path / "1", b"1")
        store.save_checkpoint("job1", plant(tmp_path / "2", {"a": b"1"}))
        self.age(store, "checkpoints/job1/00000001.json", 24 * HOUR)
        dry = store.collect({}, (), dry_run=True)
        assert store.exists(old)
        assert store.checkpoint("job1") is not None
        assert store.collect({}, ()) == dry

    def test_publishing_again_makes_young(self, store: Store, tmp_path: Path) -> None:
        """What a task has just published, however old, is not collected before it is recorded."""
        old = self.old(store, tmp_path / "1", b"1")
        store.publish(tmp_path / "1", kind="model")
        assert store.collect({}, ()).deleted == ()
        assert store.exists(old)

    def test_publishing_again_during_a_collection_saves(self, store: Store, tmp_path: Path) -> None:
        """The collector looks again before it deletes."""
        old = self.old(store, tmp_path / "1", b"1")
        before = store._backend.clock() - HOUR
        store.publish(tmp_path / "1", kind="model")
        assert not store._backend.unpublish(old, before=before)
        assert store.verify(old)

    def test_checkpoints_of_unfinished_jobs_are_roots(self, store: Store, tmp_path: Path) -> None:
        """Those of finished jobs are dropped, unless they were saved a moment ago."""
        for job, n in (("live", "1"), ("done", "2"), ("young", "3")):
            reference = store.save_checkpoint(job, plant(tmp_path / n, {"a": n.encode()}))
            self.age(store, manifest_key(reference.digest), 24 * HOUR)
            if job != "young":
                self.age(store, f"checkpoints/{job}/00000001.json", 24 * HOUR)
        collected = store.collect({}, {"live"})
        assert sorted(collected.kept.values()) == ["checkpoint of job live", "checkpoint of job young"]
        assert [store.checkpoint(job) is not None for job in ("live", "done", "young")] == [True, False, True]

    @_unhurried
    @given(roots=st.sets(st.integers(0, 4)), old=st.sets(st.integers(0, 4)))
    def test_collection_never_takes_a_root(self, store: Store, roots: set[int], old: set[int]) -> None:
        """Exactly what is old and unnamed goes, whatever the mixture."""
        with tempfile.TemporaryDirectory() as scratch:
            made = [store.publish(plant(Path(scratch, str(n)), {"f": bytes([n])}), kind="model").digest for n in range(5)]
        for n in old:
            self.age(store, manifest_key(made[n]), 24 * HOUR)
        deleted = store.collect({made[n]: f"pin {n}" for n in roots}, ()).deleted
        assert set(deleted) == {made[n] for n in old - roots}
        assert {found.digest for found in store.digests()} == set(made) - set(deleted)

    @pytest.mark.parametrize(("roots", "grace_s"), [({"digits@3": "model"}, HOUR), ({}, -1.0)])
    def test_a_collection_that_misunderstands_deletes_nothing(
        self, store: Store, tmp_path: Path, roots: dict[str, str], grace_s: float
    ) -> None:
        """A root that is no digest would protect nothing."""
        old = self.old(store, tmp_path / "1", b"1")
        with pytest.raises(InvalidSpec):
            store.collect(roots, (), grace_s=grace_s)
        assert store.exists(old)

    def test_what_is_not_ours_is_left_alone(self, store: Store, tmp_path: Path) -> None:
        """A file that somebody put into the store is neither listed nor deleted."""
        for key in ("artifacts/README", "artifacts/ab/notes/manifest.json", "notes.txt"):
            store._backend.write(key, b"mine")
        self.age(store, "artifacts/ab/notes/manifest.json", 24 * HOUR)
        assert list(store.digests()) == []
        assert store.collect({}, ()).deleted == ()
        assert store._backend.read("artifacts/ab/notes/manifest.json") == b"mine"

    # The rest

    def test_an_empty_store_answers(self, store: Store) -> None:
        """Nothing has to be made first."""
        assert list(store.digests()) == []
        assert store.collect({}, ()).deleted == ()

    def test_digests_lists_what_there_is(self, store: Store, tmp_path: Path) -> None:
        """Kind, size and time of each."""
        reference = store.publish(plant(tmp_path / "out", {"a": b"123"}), kind="report")
        (found,) = store.digests()
        assert (found.digest, found.kind, found.size) == (reference.digest, "report", 3)
        assert abs(found.published_at - store._backend.clock()) < 60

    def test_a_check_leaves_nothing(self, store: Store) -> None:
        """The probe is deleted."""
        store.check()
        assert store._backend.sizes("") in ({}, {"": 0})

    def test_a_store_shows_its_url_only(self, store: Store) -> None:
        """Credentials are never in it."""
        assert repr(store) == f"Store({store.url!r})"

    def test_manifest_reads_what_publish_wrote(self, store: Store, tmp_path: Path) -> None:
        """Round trip through bytes."""
        digest = store.publish(plant(tmp_path / "out", {"a": b"123"}), kind="report", meta={"rows": 3}).digest
        manifest = store.manifest(digest)
        assert Manifest.from_mapping(json.loads(manifest.to_bytes())) == manifest
        assert (manifest.digest, manifest.reference.kind) == (digest, "report")


#: Stores of one process-wide file system need roots of their own.
fresh = itertools.count()
