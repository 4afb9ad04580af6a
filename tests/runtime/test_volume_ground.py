"""Jobs on an engine that shares no folder with this host: everything goes through the engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import ended, submitted, wait_until

from airflow_dla.artifacts import Store
from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker import body
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.runtime.docker.shelves import Clock
from airflow_dla.runtime.docker.volume_ground import VolumeGround
from airflow_dla.specs import ExitReason

TRAIN = """
def train(job):
    number = (job.inputs["train"].path / "number.txt").read_text()
    (job.outputs["model"].path / "model.txt").write_text(number * 2)
    job.log(loss=0.25)
    sum(range(20_000_000))
"""
WAIT = """
import os, time
def wait(job):
    print("ready", flush=True)
    while not job.stopping and not os.path.exists("/dla/tmp/go"):
        time.sleep(0.01)
"""
TRAIN_FOR_EVER = """
import time
from pathlib import Path
def train(job):
    path = Path("/dla/checkpoint/step.txt")
    print("had", path.read_text() if path.exists() else "nothing", flush=True)
    path.write_text("7")
    while not job.stopping:
        time.sleep(0.01)
"""


@dataclass
class Far:
    """A place far away, as two hosts of Airflow know it."""

    ground: VolumeGround
    runtime: DockerRuntime
    launch: Callable[..., Launch]
    image: str
    store: Store
    folder: Path

    @property
    def engine(self) -> Engine:
        """The engine."""
        return self.ground.engine

    def submit(self, *what: Any, image: str | None = None, **more: Any) -> None:
        """Launch a job from the first host."""
        submitted(self.runtime, replace(self.launch(*what, **more), image=image or self.image))

    def elsewhere(self, **place: Any) -> VolumeGround:
        """Return the ground as the second host knows it."""
        known = self.ground
        return VolumeGround(
            known.engine, replace(known.place, **place), workspace=known.workspace, logs=self.folder / "logs",
            store_folder=known.store_folder,
        )  # fmt: skip

    def name(self, kind: str = "") -> str:
        """Return what belongs to the first attempt."""
        return body.name(self.ground.workspace, "job.1") + kind

    def publish(self, text: str) -> Any:
        """Publish an input."""
        folder = self.folder / "data"
        folder.mkdir()
        (folder / "number.txt").write_text(text)
        return self.store.publish(folder, kind="dataset")

    def fetched(self, digest: str) -> str:
        """Return what an output holds."""
        self.store.fetch(digest, self.folder / "fetched")
        return (self.folder / "fetched" / "model.txt").read_text()

    def is_over(self, kind: str) -> bool:
        """Whether a container has ended."""
        found = self.engine.find(self.name(kind))
        return found is not None and found.state == "exited"


@pytest.fixture
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Far:
    """Return a place far away."""
    given = [request.getfixturevalue(name) for name in ("volume_ground", "remote", "launch", "base_image", "store")]
    return Far(*given, folder=tmp_path)


def runtime_on(ground: VolumeGround) -> DockerRuntime:
    """Return the runtime of a ground."""
    return DockerRuntime(ground.engine, ground.place, node="laptop", workspace=ground.workspace, ground=ground)


@pytest.mark.usefixtures("docker_engine")
class TestVolumeGround:
    """On a real engine."""

    def test_a_job_is_followed_from_another_host(self, far: Far):
        """Inputs, code and outputs go through the helper; whoever did not launch it reads its end, metrics and peaks."""
        far.submit(TRAIN, "work:train", inputs={"train": far.publish("42")}, outputs=("model",))
        found = ended(runtime_on(far.elsewhere()), "job.1", 30.0)
        assert (found.reason, found.message) == (ExitReason.SUCCEEDED, "")
        assert found.metrics == {"loss": 0.25}
        assert far.fetched(found.outputs["model"].digest) == "4242"
        assert found.peaks["cpu_s"] > 0.1

    def test_a_grant_is_changed_from_another_host(self, far: Far):
        """The job reads it, and so does the first host after a while."""
        far.submit(WAIT, "work:wait")
        other = runtime_on(far.elsewhere())
        job = far.ground.job("job.1")
        assert job is not None
        grant = replace(job.grant, amounts={"cpu": 2.0, "memory": 0.25})
        assert other.resize("job.1", grant)
        wait_until(lambda: (found := far.ground.job("job.1")) and found.grant == grant)
        assert far.engine.has_file(far.name(), "/dla/grant.json")
        other.cancel("job.1", ExitReason.STOPPED)
        assert ended(far.runtime, "job.1", 30.0).reason is ExitReason.STOPPED

    def test_a_command_that_needs_nothing_needs_no_helper(self, far: Far, bare_image: str):
        """Its files are written through a container that never starts; its log and exit come from the engine."""
        runtime = runtime_on(far.elsewhere(helper=None))
        command = ["sh", "-c", "ls -a /dla; echo done > /dla/tmp/x; exit 3"]
        submitted(runtime, replace(far.launch(entrypoint=command), image=bare_image))
        found = ended(runtime, "job.1")
        assert (found.reason, found.code) == (ExitReason.USER_ERROR, 3)
        assert b"job.json" in runtime.logs("job.1", 0).data
        runtime.collect("job.1")
        assert b"job.json" in runtime.logs("job.1", 0).data

    def test_a_place_without_a_helper_refuses_what_is_to_be_fetched(self, far: Far):
        """The message says what to name."""
        runtime = runtime_on(far.elsewhere(helper=None))
        with pytest.raises(LaunchRefused, match=r"names no helper image, .*Python 3.11 or later and what the store needs"):
            submitted(runtime, replace(far.launch(WAIT, "work:wait"), image=far.image))

    def test_a_helper_without_python_is_refused(self, far: Far, bare_image: str):
        """It is named."""
        runtime = runtime_on(far.elsewhere(helper=bare_image))
        with pytest.raises(LaunchRefused, match=f"helper image '{bare_image}' of place 'far' has no python3"):
            submitted(runtime, replace(far.launch(WAIT, "work:wait"), image=far.image))

    def test_a_helper_with_an_old_python_ends_the_attempt(self, far: Far, foreign_image: str):
        """It never starts, and its exit says what the mate met."""
        runtime = runtime_on(far.elsewhere(helper=foreign_image))
        submitted(runtime, replace(far.launch(WAIT, "work:wait"), image=far.image))
        found = ended(runtime, "job.1")
        assert (found.reason, found.message[:15]) == (ExitReason.LOST, "the mate failed")
        assert not far.engine.find(far.name())

    def test_a_mate_that_never_gets_done_is_given_up(self, far: Far):
        """After three more tries, with what it said last."""
        far.submit(WAIT, "work:wait", outputs=("model",))
        broken = b"raise SystemExit('out of order')"
        far.engine.put_files(far.name("-mate"), "/opt/dla/lib/airflow_dla/agents", {"mate.py": broken})
        far.engine.kill(far.name("-mate"), "SIGKILL")
        found = wait_until(lambda: far.ground.finish("job.1", succeeded=True, hard=False), 60.0)
        assert found.error[0] == "lost"
        assert "ended 3 times before it was done" in found.error[1]
        far.runtime.cancel("job.1", ExitReason.STOPPED)
        ended(far.runtime, "job.1", 30.0)

    def test_an_input_that_is_gone_ends_the_attempt(self, far: Far):
        """It never starts, its exit says why, and the helper ends."""
        gone = replace(far.publish("42"), digest="sha256:" + "0" * 64)
        far.submit(TRAIN, "work:train", inputs={"train": gone}, outputs=("model",))
        found = ended(far.runtime, "job.1")
        assert found.reason is ExitReason.USER_ERROR
        assert "input 'train': there is no artifact" in found.message
        wait_until(lambda: far.is_over("-mate"))

    def test_the_mate_is_started_again(self, far: Far):
        """A helper that was killed while the job ran publishes all the same."""
        code = WAIT + "    (job.outputs['model'].path / 'model.txt').write_text('trained')\n"
        far.submit(code, "work:wait", outputs=("model",))
        wait_until(lambda: b"ready" in far.runtime.logs("job.1", 0).data)
        far.engine.kill(far.name("-mate"), "SIGKILL")
        far.engine.put_files(far.name(), "/dla/tmp", {"go": b""})
        found = ended(runtime_on(far.elsewhere()), "job.1", 30.0)
        assert found.succeeded, found.message
        assert far.fetched(found.outputs["model"].digest) == "trained"

    def test_a_checkpoint_comes_back(self, far: Far):
        """What a stopped attempt left in its checkpoint folder lies there for the next one."""
        far.submit(TRAIN_FOR_EVER, "work:train")
        wait_until(lambda: b"had nothing" in far.runtime.logs("job.1", 0).data)
        far.runtime.cancel("job.1", ExitReason.PREEMPTED)
        assert ended(far.runtime, "job.1", 30.0).reason is ExitReason.PREEMPTED
        far.submit(TRAIN_FOR_EVER, "work:train", "job.2")
        wait_until(lambda: b"had 7" in far.runtime.logs("job.2", 0).data)
        far.runtime.cancel("job.2", ExitReason.STOPPED)
        ended(far.runtime, "job.2", 30.0)

    def test_secrets_of_an_image_without_python(self, far: Far, bare_image: str):
        """They are files in memory for the job's user alone, and nothing that the engine shows has them."""
        command = ["sh", "-c", "cat /run/secrets/TOKEN; ls -lan /run/secrets"]
        far.submit(entrypoint=command, secrets={"TOKEN": "s3cret"}, image=bare_image)
        found = ended(far.runtime, "job.1", 30.0)
        log = far.runtime.logs("job.1", 0).data.decode()
        assert found.succeeded, log
        assert "s3cret" in log
        assert any(line.startswith("-rw-------") and line.split()[2:4] == ["65532", "65532"] for line in log.splitlines())
        assert "s3cret" not in str([far.engine.inspect(far.name(kind)) for kind in ("", "-mate")])
        wait_until(lambda: far.is_over("-mate"))
        assert not far.engine.has_file(far.name("-mate"), "/run/secrets/TOKEN")

    def test_marks_are_made_once(self, far: Far):
        """The first reason counts, whichever host gives it; the time is the engine's."""
        other = far.elsewhere()
        first = far.ground.mark_stop("job.1", ExitReason.PREEMPTED)
        assert other.mark_stop("job.1", ExitReason.STOPPED).reason is ExitReason.PREEMPTED
        assert other.stop("job.1") == far.ground.stop("job.1")
        assert abs(first.at - time.time()) < 5.0
        assert other.launched() == {"job.1"}

    def test_one_host_launches_at_a_time(self, far: Far):
        """Neither another host nor another thread gets a claim that is held; once let go anyone does."""
        one, other = far.ground, far.elsewhere()
        with one.claimed("job.1") as first, other.claimed("job.1") as second, one.claimed("job.1") as third:
            assert (first, second, third) == (True, False, False)
        with other.claimed("job.1") as again:
            assert again
        assert one.launched() == set()

    def test_a_claim_of_one_who_is_gone_is_void(self, far: Far):
        """After a minute, by the engine's clock."""
        gone = {"dla.workspace": far.ground.workspace, "dla.attempt": "job.1", "dla.kind": "claim", "dla.who": "x", "dla.at": "1.0"}
        far.engine.ask("post", "/volumes/create", body={"Name": far.name("-claim"), "Labels": gone})
        with far.ground.claimed("job.1") as claimed:
            assert claimed
        assert far.engine.ask("get", "/volumes/{0}", far.name("-claim")).status == 404

    def test_old_files_are_forgotten_once_the_container_is_gone(self, far: Far):
        """Nothing of the attempt is left on the engine then."""
        far.submit(WAIT, "work:wait")
        far.runtime.cancel("job.1", ExitReason.STOPPED)
        ended(far.runtime, "job.1", 30.0)
        assert far.runtime.forget(older_than_s=-1.0) == ()
        far.runtime.collect("job.1")
        assert far.runtime.forget(older_than_s=3600.0) == ()
        assert far.runtime.forget(older_than_s=-1.0) == ("job.1",)
        assert (far.runtime.jobs(), far.ground.launched()) == ({}, set())

    def test_the_engine_tells_the_time(self, far: Far):
        """It is asked once in a minute, and time goes on in between."""
        seconds = [100.0]
        clock = Clock(far.engine, monotonic=lambda: seconds[0])
        first = clock.now()
        seconds[0] += 30.0
        assert clock.now() == first + 30.0
        assert abs(first - time.time()) < 5.0

    def test_jobs_cannot_mount_each_others_volumes(self, far: Far):
        """Whatever patterns the place's owner allows."""
        made = replace(far.launch(WAIT, "work:wait"), image=far.image, volumes={"/data": "dla-0f3a9c21-job.7"})
        with pytest.raises(LaunchRefused, match=r"volume 'dla-0f3a9c21-job.7' for /data is not for jobs"):
            far.runtime.submit(made)
