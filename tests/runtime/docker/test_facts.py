"""What engines and images say, read as values."""

from __future__ import annotations

from airflow_dla.runtime.docker.facts import DEFAULT_PATH, EngineFacts, Image

INFO = {
    "Name": "vm", "NCPU": 2, "MemTotal": 25276514304, "Runtimes": {"runc": {"path": "runc"}, "nvidia": {"path": "n"}},
    "Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]],
    "CgroupVersion": "1", "SwapLimit": True, "Architecture": "x86_64",
}  # fmt: skip
VERSION = {"ApiVersion": "1.41", "Components": [{"Name": "Engine"}, {"Name": "docker-init", "Version": "0.19.0"}]}


def test_engine():
    """Everything that is decided by is read from two answers of an engine."""
    assert EngineFacts.from_engine(INFO, VERSION) == EngineFacts(
        name="vm", api_version="1.41", cpus=2, memory_bytes=25276514304, runtimes=("nvidia", "runc"), backing_filesystem="extfs",
        cgroup_version=1, has_init=True,
    )  # fmt: skip


def test_engine_that_says_little():
    """An engine that says nothing has no init, no runtimes and no swap limit."""
    facts = EngineFacts.from_engine({}, {"Components": None})
    assert (facts.cpus, facts.has_init, facts.runtimes, facts.swap_limit) == (1, False, (), False)


def test_limits_disk():
    """Drivers with quotas of their own limit what is written, overlay2 only over XFS."""

    def limits(driver: str, filesystem: str = "") -> bool:
        info = {"Driver": driver, "DriverStatus": [["Backing Filesystem", filesystem]]}
        return EngineFacts.from_engine(info, {}).limits_disk

    assert limits("btrfs")
    assert limits("overlay2", "xfs")
    assert not limits("overlay2", "extfs")
    assert not limits("vfs")


def test_image_without_config():
    """An imported image says nothing, and gets the PATH that an engine gives it."""
    image = Image.from_inspect({"Id": "sha256:1", "Config": None})
    assert (image.env, ":".join(image.path), image.entrypoint) == ({}, DEFAULT_PATH, ())


def test_image_path():
    """Folders of a PATH that are not absolute are not looked into."""
    assert Image.from_inspect({"Id": "x", "Config": {"Env": ["PATH=/a::b:/c"]}}).path == ("/a", "/c")
