"""The engine that tests use: it is real, its images run, and nothing of it stays."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from docker_daemon import OLDEST_API, Daemon, Engine, unused_network, version
from docker_images import SHELL_LESS, mirrors
from fixtures_docker import image_on

ROUTES = """Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
vpn	0000C00A	00000000	0001	0	0	0	0000FFFF	0	0	0
"""


def said(docker_engine: Engine, image: str, command: Sequence[str]) -> str:
    """Run a command in a container of its own and return what it wrote."""
    with docker_engine.client() as client:
        made = client.create_container(image, list(command))["Id"]
        try:
            client.start(made)
            assert client.wait(made, timeout=30)["StatusCode"] == 0
            return str(client.logs(made).decode().strip())
        finally:
            client.remove_container(made, force=True)


def test_the_engine_is_recent_enough(docker_engine: Engine):
    """What the package sends was written for this version."""
    with docker_engine.client() as client:
        assert version(client.version()["ApiVersion"]) >= OLDEST_API


def test_the_base_image_has_what_the_package_imports(docker_engine: Engine, base_image: str):
    """A container may fetch and publish for a job."""
    program = "import sys, fsspec; print(*sys.version_info[:2], fsspec.__name__)"
    assert said(docker_engine, base_image, ["python3", "-c", program]) == "3 11 fsspec"


def test_the_foreign_image_has_only_another_python(docker_engine: Engine, foreign_image: str):
    """One that the package itself could not be installed for."""
    assert said(docker_engine, foreign_image, ["python3", "-c", "import sys; print(*sys.version_info[:2])"]) == "3 9"


def test_the_bare_image_has_a_shell_and_no_python(docker_engine: Engine, bare_image: str):
    """As images of programs in other languages are."""
    assert said(docker_engine, bare_image, ["sh", "-c", "echo $((6 * 7)); ! command -v python3"]) == "42"


def test_the_shell_less_image_has_neither(docker_engine: Engine, shell_less_image: str):
    """As images that hold one static program are."""
    assert said(docker_engine, shell_less_image, ["echo", "alone"]) == "alone"
    with pytest.raises(Exception, match="sh"):
        said(docker_engine, shell_less_image, ["sh", "-c", "echo alone"])


def test_an_image_is_made_once(docker_engine: Engine, shell_less_image: str):
    """The second test to ask gets what the first one made."""
    with docker_engine.client() as client:
        first = client.inspect_image(shell_less_image)["Id"]
        assert image_on(docker_engine, SHELL_LESS) == shell_less_image
        assert client.inspect_image(shell_less_image)["Id"] == first


def sleeper(client: Any, image: str) -> str:
    """Start a container that runs until it is removed."""
    made = client.create_container(image, ["sleep", "600"], stop_signal="SIGKILL")["Id"]
    client.start(made)
    return str(made)


def test_a_container_outlives_its_daemon_when_that_may_be(own_engine: Daemon):
    """Restarted in order or killed, with live restore; ended in order without."""
    own_engine.restart("--live-restore")
    image = image_on(own_engine.engine, SHELL_LESS)
    with own_engine.engine.client() as client:
        made = sleeper(client, image)
        for how in (signal.SIGTERM, signal.SIGKILL):
            own_engine.restart("--live-restore", how=how)
            assert client.inspect_container(made)["State"]["Running"]
        own_engine.restart()
        own_engine.restart()
        assert not client.inspect_container(made)["State"]["Running"]


def test_a_paused_daemon_does_not_answer(own_engine: Daemon):
    """It does again when it goes on."""
    own_engine.pause()
    assert "no engine answers" in str(own_engine.engine.silence(timeout_s=0.5))
    own_engine.resume()
    assert own_engine.engine.silence() is None


def test_each_test_finds_the_daemon_as_it_was(own_engine: Daemon):
    """Running, with nothing of the tests before in it."""
    image = image_on(own_engine.engine, SHELL_LESS)
    with own_engine.engine.client() as client:
        sleeper(client, image)
        client.create_network("left", driver="bridge")
        own_engine.stop()
        own_engine.recover()
        assert client.containers(all=True) == []
        assert {found["Name"] for found in client.networks()} == {"bridge", "host", "none"}


def test_a_daemon_leaves_nothing_behind(own_engine: Daemon):
    """No process, mount, bridge, or file: also when it went with a container running."""
    second = Daemon()
    image = image_on(second.engine, SHELL_LESS)
    with second.engine.client() as client:
        sleeper(client, image)
    assert len(second.processes()) == 3  # dockerd, containerd, and the container's shim
    assert second.mounts()
    second.stop(signal.SIGKILL)
    second.remove()
    assert not second.processes()
    assert not second.mounts()
    assert not second.folder.exists()
    assert not Path("/sys/class/net", second.bridge).exists()
    assert own_engine.engine.silence() is None


def test_a_network_that_is_routed_is_not_taken():
    """The first of the block is a VPN's here."""
    assert str(unused_network(ROUTES)) == "10.193.0.0/24"
    assert str(unused_network(ROUTES.replace("0000FFFF", "0000E0FF"))) == "10.224.0.0/24"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "sources.list",
            "deb [arch=amd64] http://mirror.example/debian/ bookworm main\ndeb http://mirror.example/debian-security x main\n",
        ),
        (
            "sources.list.d/debian.sources",
            "Types: deb\n# http://old.example/debian\nURIs: http://mirror.example/debian\n",
        ),
    ],
)
def test_the_mirror_is_apts(tmp_path: Path, name: str, text: str):
    """In both of the forms that apt reads."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)
    assert mirrors(tmp_path)[0] == "http://mirror.example/debian"
    assert len(mirrors(tmp_path)) == 3
