"""The mate beside a container: real processes, killed at any moment, and jobs that lay traps for it."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import job_file, wait_until

import airflow_dla
from airflow_dla.artifacts import Store
from airflow_dla.runtime.processes import is_alive
from airflow_dla.specs import ArtifactRef, KeeperFile, UriRef

AGENTS = Path(airflow_dla.__file__).parent / "agents"
ENDED = {"succeeded": True, "hard": False}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store of its own."""
    return Store(str(tmp_path / "store"))


class Attempt:
    """One attempt's control folder, with the runtime's part played by the test."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.dla = folder / "dla"
        self.dla.mkdir(parents=True)
        self.store = store

    def write(self, **fields: Any) -> None:
        """Write job.json."""
        job = job_file(**{"store": self.store.url, **fields})
        (self.folder / "job.json").write_text(json.dumps(job.to_mapping()))

    def start(self, **handed: Any) -> None:
        """Start a mate and wait until it is there, or another was."""
        command = [sys.executable, str(AGENTS), "beside", str(self.folder)]
        subprocess.run(command, input=json.dumps(handed).encode(), check=True, timeout=30)

    def say(self, name: str, value: Any) -> None:
        """Write one of the runtime's files."""
        partial = self.folder / f".{name}"
        partial.write_text(json.dumps(value))
        partial.rename(self.folder / f"{name}.json")

    def told(self, name: str) -> Any:
        """Wait for one of the mate's files."""
        path = self.folder / f"{name}.json"
        wait_until(path.exists)
        return json.loads(path.read_text())

    def mate(self) -> KeeperFile:
        """Return who stages."""
        return KeeperFile.from_mapping(self.told("mate"))

    def lives(self) -> bool:
        """Whether the mate lives."""
        mate = self.mate()
        return is_alive(mate.pid, boot=mate.boot_id, start_ticks=mate.start_ticks)

    def output(self, text: str = "1", name: str = "model") -> None:
        """Write an output as a container does."""
        (self.dla / "out" / name / "w").write_text(text)

    def text(self, reference: Any) -> str:
        """Return what was published."""
        target = self.folder.parent / f"got-{time.monotonic_ns()}"
        self.store.fetch(ArtifactRef.from_mapping(reference).digest, target)
        return (target / "w").read_text()


@pytest.fixture
def attempt(tmp_path: Path, store: Store) -> Iterator[Attempt]:
    """Return an attempt whose mate is gone when the test ends."""
    made = Attempt(tmp_path / "jobs" / "job.1", store)
    yield made
    if (made.folder / "mate.json").exists() and made.lives():
        os.kill(made.mate().pid, signal.SIGKILL)


def data(tmp_path: Path, text: str = "1", files: int = 1) -> Path:
    """Return a folder with files of the same bytes, one of them called x."""
    folder = tmp_path / f"data-{time.monotonic_ns()}"
    folder.mkdir()
    for name in ["x", *map(str, range(1, files))]:
        (folder / name).write_text(text)
    return folder


def test_whole_life(attempt: Attempt, tmp_path: Path):
    """Inputs and code come as plain files, outputs go, the mate says so last and ends."""
    train = attempt.store.publish(data(tmp_path, "train"), kind="dataset")
    seen = attempt.store.publish(data(tmp_path, "seen"), kind="dataset")
    code = attempt.store.publish(data(tmp_path, "code"), kind="code")
    far = UriRef(uri=f"file://{data(tmp_path, 'far')}/x", mode="copy")
    attempt.write(inputs={"train": train, "seen": seen, "far": far}, code=code, outputs=("model",))
    attempt.start(mounted=["seen"], owner=[4321, 4322])
    assert attempt.told("fetched") == {}
    for path, text in (("in/train/x", "train"), ("in/far/x", "far"), ("code/x", "code")):
        assert (attempt.dla / path).read_text() == text
        assert not (attempt.dla / path).is_symlink()
        assert bool((attempt.dla / path).stat().st_mode & 0o200) is path.startswith("code")
    assert not (attempt.dla / "in" / "seen").exists()
    names = (".", "code", "code/x", "out/model", "tmp", "checkpoint", "in", "in/train/x")
    owned = {name: (attempt.dla / name).stat().st_uid for name in names}
    if os.geteuid() == 0:
        assert {name for name, owner in owned.items() if owner != 4321} == {"in", "in/train/x"}
    attempt.output("weights")
    (attempt.dla / "out" / "model" / "last").symlink_to("/dla/out/model/w")
    attempt.say("ended", ENDED)
    said = attempt.told("published")
    assert said["error"] is None
    assert attempt.text(said["outputs"]["model"]) == "weights"
    wait_until(lambda: not attempt.lives())
    assert {path.name for path in attempt.dla.iterdir()} == set()
    attempt.store.verify(code.digest)


def test_only_one(attempt: Attempt):
    """A second mate goes at once, and one that comes after the last word does nothing."""
    attempt.write()
    attempt.start()
    first = attempt.mate()
    attempt.start()
    time.sleep(0.5)
    assert attempt.mate() == first
    attempt.say("ended", ENDED)
    attempt.told("published")
    wait_until(lambda: not attempt.lives())
    before = (attempt.folder / "published.json").stat().st_mtime_ns
    attempt.start()
    time.sleep(0.5)
    assert (attempt.folder / "published.json").stat().st_mtime_ns == before
    assert attempt.mate() == first


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments(attempt: Attempt, tmp_path: Path, seed: int):
    """However often it is killed, what it fetches is whole and what it publishes right."""
    chance = random.Random(seed)
    train = attempt.store.publish(data(tmp_path, "train" * 9999, files=40), kind="dataset")
    code = attempt.store.publish(data(tmp_path, "code", files=40), kind="code")
    attempt.write(inputs={"train": train}, code=code, outputs=("model", "note"))

    def killed_until(name: str) -> None:
        for _ in range(40):
            attempt.start()
            deadline = time.monotonic() + chance.uniform(0.0, 0.9)
            while time.monotonic() < deadline and not (attempt.folder / f"{name}.json").exists():
                time.sleep(0.002)
            if (attempt.folder / f"{name}.json").exists():
                return
            if (attempt.folder / "mate.json").exists() and attempt.lives():
                os.kill(attempt.mate().pid, signal.SIGKILL)
                wait_until(lambda: not attempt.lives())
        raise AssertionError(f"no {name}.json")

    killed_until("fetched")
    assert attempt.told("fetched") == {}
    assert len(list((attempt.dla / "in" / "train").iterdir())) == len(list((attempt.dla / "code").iterdir())) == 40
    assert {path.read_text() for path in (attempt.dla / "in" / "train").iterdir()} == {"train" * 9999}
    os.kill(attempt.mate().pid, signal.SIGKILL)
    wait_until(lambda: not attempt.lives())
    for number in range(60):
        (attempt.dla / "out" / "model" / str(number)).write_text(f"{number}" * 9999)
    attempt.output("weights")
    (attempt.dla / "out" / "note").rmdir()
    (attempt.dla / "out" / "note").write_text("one file")
    attempt.say("ended", ENDED)
    killed_until("published")
    said = attempt.told("published")
    assert said["error"] is None
    assert attempt.text(said["outputs"]["model"]) == "weights"
    assert attempt.store.manifest(said["outputs"]["note"]["digest"]).files[0].path == "note"
    for reference in said["outputs"].values():
        attempt.store.verify(reference["digest"])


def test_terminated_goes_without_a_word(attempt: Attempt):
    """SIGTERM ends a mate that can be started again; SIGHUP makes it look at once."""
    attempt.write(outputs=("model",))
    attempt.start()
    attempt.told("fetched")
    os.kill(attempt.mate().pid, signal.SIGTERM)
    wait_until(lambda: not attempt.lives())
    assert not (attempt.folder / "published.json").exists()
    attempt.output()
    first = attempt.mate()
    attempt.start()
    wait_until(lambda: attempt.mate() != first)
    attempt.say("ended", ENDED)
    os.kill(attempt.mate().pid, signal.SIGHUP)
    assert attempt.told("published")["error"] is None


def test_failed_and_stopped_jobs_keep_their_checkpoint(attempt: Attempt, tmp_path: Path):
    """The newest checkpoint is in the store before the last word; outputs stay unpublished, inputs go."""
    train = attempt.store.publish(data(tmp_path), kind="dataset")
    attempt.write(inputs={"train": train}, outputs=("model",))
    attempt.start()
    attempt.told("fetched")
    (attempt.dla / "checkpoint" / "x").write_text("step 7")
    attempt.say("ended", {"succeeded": False, "hard": False})
    assert attempt.told("published") == {"outputs": {}, "peaks": {}, "error": None}
    assert attempt.store.fetch_checkpoint("job", tmp_path / "got") is not None
    assert (tmp_path / "got" / "x").read_text() == "step 7"
    wait_until(lambda: not attempt.lives())
    assert sorted(path.name for path in attempt.dla.iterdir()) == ["checkpoint", "code", "out"]


def test_checkpoints_while_it_runs(attempt: Attempt, tmp_path: Path):
    """A checkpoint that was saved whole is in the store soon, also after the mate was killed; the next attempt has it."""
    attempt.write()
    attempt.start()
    attempt.told("fetched")
    for version, text in ((1, "one"), (2, "two")):
        (attempt.dla / "checkpoints" / str(version)).mkdir(parents=True)
        (attempt.dla / "checkpoints" / str(version) / "x").write_text(text)
        wait_until(lambda version=version: len(attempt.store.checkpoints("job")) == version)
        first = attempt.mate()
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: not attempt.lives())
        attempt.start()
        wait_until(lambda first=first: attempt.mate() != first)
    attempt.say("ended", {"succeeded": False, "hard": True})
    attempt.told("published")
    following = Attempt(tmp_path / "jobs" / "job.2", attempt.store)
    following.write(attempt="job.2", code=attempt.store.publish(data(tmp_path), kind="code"))
    following.start()
    assert following.told("fetched") == {}
    assert (following.dla / "checkpoint" / "x").read_text() == "two"
    assert (following.dla / "checkpoint" / "x").stat().st_mode & 0o200
    following.say("ended", ENDED)
    following.told("published")


def test_never_written_output(attempt: Attempt):
    """An output without a file is the author's error, told by the path that the job sees."""
    attempt.write(outputs=("model",))
    attempt.start()
    attempt.told("fetched")
    attempt.say("ended", ENDED)
    reason, message = attempt.told("published")["error"]
    assert reason == "user_error"
    assert "output 'model' was never written: /dla/out/model is empty" in message


def test_missing_input(attempt: Attempt, tmp_path: Path):
    """An input that is gone is told before the container starts, and the mate waits for the runtime's word."""
    gone = dataclasses.replace(attempt.store.publish(data(tmp_path), kind="dataset"), digest="sha256:" + "0" * 64)
    attempt.write(inputs={"train": gone})
    attempt.start(mounted=["train"])
    reason, message = attempt.told("fetched")["error"]
    assert reason == "user_error"
    assert "input 'train': there is no artifact" in message
    assert attempt.lives()
    attempt.say("ended", {"succeeded": False, "hard": False})
    assert attempt.told("published")["outputs"] == {}


def test_ended_while_it_fetches_from_a_store_out_of_reach(attempt: Attempt, tmp_path: Path):
    """A container that never starts ends the fetching at once; nobody is told that all is in place."""
    (tmp_path / "file").touch()
    attempt.write(store=f"file://{tmp_path}/file/store", outputs=("model",))
    attempt.start()
    attempt.mate()
    attempt.say("ended", {"succeeded": False, "hard": False})
    assert attempt.told("published")["outputs"] == {}
    assert not (attempt.folder / "fetched.json").exists()


def test_stopped_while_it_fetches(attempt: Attempt, tmp_path: Path):
    """A stop is told as why nothing starts."""
    (tmp_path / "file").touch()
    attempt.write(store=f"file://{tmp_path}/file/store", outputs=("model",))
    attempt.start()
    attempt.mate()
    attempt.say("stop", {"reason": "preempted"})
    assert attempt.told("fetched") == {"error": ["preempted", "preempted before it started"]}


def test_stopped_while_it_publishes(attempt: Attempt):
    """A stop ends the wait for a store that is out of reach, and the outputs stay where they are."""
    attempt.write(outputs=("model",))
    attempt.start()
    attempt.told("fetched")
    attempt.output()
    store = Path(attempt.store.url.removeprefix("file://"))
    store.rename(store.with_name("away"))
    store.touch()
    attempt.say("ended", ENDED)
    time.sleep(0.6)
    assert not (attempt.folder / "published.json").exists()
    attempt.say("stop", {"reason": "stopped"})
    assert attempt.told("published")["error"] == ["stopped", "stopped while its outputs were published"]
    assert (attempt.dla / "out" / "model" / "w").exists()


def test_store_comes_back(attempt: Attempt):
    """A store that is away for a moment delays the last word, no more."""
    attempt.write(outputs=("model",))
    attempt.start()
    attempt.told("fetched")
    attempt.output()
    store = Path(attempt.store.url.removeprefix("file://"))
    store.rename(store.with_name("away"))
    store.touch()
    attempt.say("ended", ENDED)
    time.sleep(0.6)
    store.unlink()
    store.with_name("away").rename(store)
    assert attempt.text(attempt.told("published")["outputs"]["model"]) == "1"


def test_damaged_job_file(attempt: Attempt):
    """A job.json of another version is told, not waited upon."""
    (attempt.folder / "job.json").write_text(json.dumps({**job_file().to_mapping(), "protocol": 99}))
    attempt.start()
    assert "speaks protocol 99" in attempt.told("fetched")["error"][1]
    assert "speaks protocol 99" in attempt.told("published")["error"][1]


def test_nobody_wants_it_any_more(attempt: Attempt):
    """A mate whose folder was removed ends."""
    attempt.write()
    attempt.start()
    attempt.told("fetched")
    mate = attempt.mate()
    attempt.folder.rename(attempt.folder.with_name("gone"))
    wait_until(lambda: not is_alive(mate.pid, boot=mate.boot_id, start_ticks=mate.start_ticks))


@pytest.mark.parametrize("trap", ["file", "folder", "out", "inner"])
def test_links_in_outputs(attempt: Attempt, tmp_path: Path, trap: str):
    """A link in the place of an output, of all outputs or of a file publishes nothing of what it points at, nor removes it."""
    secret = tmp_path / "etc"
    (secret / "model").mkdir(parents=True)
    (secret / "model" / "shadow").write_text("root:secret")
    attempt.write(outputs=("model",))
    attempt.start()
    attempt.told("fetched")
    out = attempt.dla / "out"
    if trap == "inner":
        (out / "model" / "w").symlink_to(secret / "model" / "shadow")
    else:
        (out / "model").rmdir()
    if trap == "out":
        out.rmdir()
        out.symlink_to(secret)
    elif trap != "inner":
        (out / "model").symlink_to(secret / "model" / ("shadow" if trap == "file" else ""))
    attempt.say("ended", ENDED)
    said = attempt.told("published")
    assert said["outputs"] == {}
    assert said["error"][0] == "user_error"
    assert "symbolic link" in said["error"][1]
    assert not list(attempt.store.digests())
    wait_until(lambda: not attempt.lives())
    assert (secret / "model" / "shadow").read_text() == "root:secret"


@pytest.mark.parametrize("trap", ["file", "checkpoint", "versions", "version", "in"])
def test_links_in_checkpoints(attempt: Attempt, tmp_path: Path, trap: str):
    """Nothing behind a link in a checkpoint is saved, and what is tidied up is only the link."""
    secret = tmp_path / "etc"
    (secret / "1").mkdir(parents=True)
    (secret / "1" / "shadow").write_text("root:secret")
    attempt.write()
    attempt.start()
    attempt.told("fetched")
    plain, versions = attempt.dla / "checkpoint", attempt.dla / "checkpoints"
    if trap == "file":
        (plain / "x").symlink_to(secret / "1" / "shadow")
    elif trap == "checkpoint":
        plain.rmdir()
        plain.symlink_to(secret)
    elif trap == "versions":
        versions.symlink_to(secret)
    elif trap == "version":
        versions.mkdir()
        (versions / "1").symlink_to(secret / "1")
    else:
        (attempt.dla / "in").rmdir()
        (attempt.dla / "in").symlink_to(secret)
    time.sleep(1.2)
    attempt.say("ended", {"succeeded": False, "hard": False})
    assert attempt.told("published")["error"] is None
    wait_until(lambda: not attempt.lives())
    assert not list(attempt.store.digests())
    assert (secret / "1" / "shadow").read_text() == "root:secret"


def test_no_peaks(attempt: Attempt):
    """Without the container's control group on this host there are no peaks, and nobody minds."""
    attempt.write()
    attempt.say("container", {"id": "f" * 64})
    attempt.start()
    attempt.told("fetched")
    attempt.say("ended", ENDED)
    assert attempt.told("published") == {"outputs": {}, "peaks": {}, "error": None}
