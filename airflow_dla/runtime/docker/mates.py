"""The container of ours beside an attempt: the door to its files, and where its mate runs.

An engine unpacks and packs archives in any container, whether it runs, has ended, or never
started. So a container that has the attempt's volumes is enough to write and read them. It
runs only if something is to be fetched, kept or published: then our mate is its first
process, with what it needs of this package put in as files; the image brings Python and
what the store is spoken to with.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import airflow_dla
from airflow_dla.errors import LaunchRefused, PlaceUnavailable
from airflow_dla.runtime.docker.archives import Entry, archived
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.facts import Image
from airflow_dla.runtime.docker.interpreters import Interpreters
from airflow_dla.runtime.docker.listings import WORKSPACE
from airflow_dla.specs import PlaceSpec

#: Where the mate keeps what no job may see, in the container's own files; ``dla`` in it is the job's volume.
CONTROL: Final = "/control"
#: Where this package is put.
PACKAGE: Final = "/opt/dla/lib/airflow_dla"

_CGROUPS: Final = "/sys/fs/cgroup"
_LIMIT: Final = 64 << 20
_SAID: Final = 400
_PIDS: Final = 256
#: What a mate imports; the rest of the package stays here.
PARTS: Final = ("__init__.py", "errors.py", "agents", "artifacts", "specs")


class Mates:
    """Makes, starts and asks the containers of ours on one engine.

    Parameters
    ----------
    engine : `Engine`
    place : `PlaceSpec`
        Names the image, and the networks.
    workspace : str
    name : callable
        Attempt → name of its container.
    handed : mapping
        What mates are handed through standard input: ``{"store": options}``.
    store_folder : Path or None
        Of a store in a folder of the engine's host, which is mounted where it lies.
    """

    def __init__(
        self, engine: Engine, place: PlaceSpec, *, workspace: str, name: Callable[[str], str], handed: Mapping[str, Any],
        store_folder: Path | None = None,
    ) -> None:  # fmt: skip
        self._engine = engine
        self._place = place
        self._workspace = workspace
        self._name = name
        self._handed = handed
        self._store_folder = store_folder
        self._interpreters = Interpreters(engine)

    def image(self, otherwise: str, *, runs: bool) -> Image:
        """Return the image of a container of ours, which is fetched if need be.

        Parameters
        ----------
        otherwise : str
            An image that the engine has: one that never starts needs nothing in it.
        runs : bool
            Whether the mate is to run in it.

        Raises
        ------
        NotReady
            While it is fetched.
        LaunchRefused
            If it is needed and the place names none, or it cannot be had.
        """
        if runs and self._place.helper is None:
            raise LaunchRefused(
                f"place {self._place.name!r} is not on this host and names no helper image, without which nothing can be fetched or "
                "published there; give the place one with Python 3.11 or later and what the store needs (fsspec, s3fs, …)"
            )
        name = self._place.helper if runs and self._place.helper else otherwise
        self._engine.pull(name)
        found = self._engine.image(name)
        if found is None:
            raise LaunchRefused(f"image {name!r} was pulled to place {self._place.name!r} and is gone again; is somebody pruning images?")
        return found

    def make(self, attempt: str, image: Image, mounts: Sequence[Mapping[str, Any]], owner: tuple[int, int], *, runs: bool) -> None:
        """Make an attempt's container unless it is there."""
        python = self._interpreters.find(image) if runs else "none"
        if python is None:
            raise LaunchRefused(f"helper image {self._place.helper!r} of place {self._place.name!r} has no python3; name another")
        store = (
            [{"Type": "bind", "Source": str(self._store_folder), "Target": str(self._store_folder)}] if runs and self._store_folder else []
        )
        self._engine.create(self._name(attempt), self._body(attempt, image, python, [*mounts, *store], owner))

    def fill(self, attempt: str, files: Iterable[Entry], last: Entry, *, runs: bool) -> None:
        """Put files into an attempt's container, the last one only when all others are there."""
        more = package(PARTS, PACKAGE.strip("/")) if runs else ()
        self._engine.put_archive(self._name(attempt), "/", archived([*more, *files], last=last))

    def put(self, attempt: str, path: str, value: Mapping[str, Any]) -> bool:
        """Write a JSON file whole below `CONTROL`; return whether there is a container that took it."""
        entry = Entry(path=path, data=json.dumps(value).encode(), mode=0o644)
        try:
            self._engine.put_archive(self._name(attempt), CONTROL, archived((), last=entry))
        except LaunchRefused:
            return False
        return True

    def read(self, attempt: str, path: str) -> bytes | None:
        """Return a file below `CONTROL`; None where there is none."""
        return self._engine.read_file(self._name(attempt), f"{CONTROL}/{path}", _LIMIT)

    def read_json(self, attempt: str, path: str) -> dict[str, Any] | None:
        """Return what a JSON file holds; None where there is none."""
        found = self.read(attempt, path)
        return None if found is None else dict(json.loads(found))

    def state(self, attempt: str) -> str | None:
        """Return ``created``, ``running``, ``exited``, …; None where there is no container."""
        found = self._engine.find(self._name(attempt))
        return None if found is None else found.state

    def start(self, attempt: str) -> None:
        """Start the mate, or start it again; one that runs goes on."""
        document = self._engine.inspect(self._name(attempt))
        if document is None or document["State"]["Status"] == "running":
            return
        owner = [int(part) for part in document["Config"]["Labels"]["dla.owner"].split(":")]
        self._engine.start(document["Id"], stdin=json.dumps({**self._handed, "mounted": [], "owner": owner}).encode(), again=True)

    def wake(self, attempt: str) -> None:
        """Have the mate look at once."""
        self._engine.kill(self._name(attempt), "SIGHUP")

    def last_words(self, attempt: str) -> str:
        """Return the end of what the mate printed."""
        name = self._name(attempt)
        said = (self.read(attempt, "mate.log") or b"") or self._engine.tail(name, _SAID)
        return " ".join(said[-_SAID:].decode("utf-8", "replace").split()) or "nothing"

    def remove(self, attempt: str) -> None:
        """Remove the container, whatever it does."""
        self._engine.remove(self._name(attempt), force=True)

    def _body(
        self, attempt: str, image: Image, python: str, mounts: Sequence[Mapping[str, Any]], owner: tuple[int, int]
    ) -> dict[str, Any]:  # fmt: skip
        networks = [name for name in self._place.policy.networks if name != "none"]
        # Peaks of memory and CPU time stand in the control groups of the engine's host.
        seen = {"Type": "bind", "Source": _CGROUPS, "Target": _CGROUPS, "ReadOnly": True}
        return {
            "Image": image.id,
            "Entrypoint": [python],
            "Cmd": [f"{PACKAGE}/agents", "beside", CONTROL],
            "User": "0:0",
            "WorkingDir": "/",
            "Labels": {WORKSPACE: self._workspace, "dla.mate": attempt, "dla.owner": "{}:{}".format(*owner)},
            "AttachStdin": True,
            "OpenStdin": True,
            "StdinOnce": True,
            "StopSignal": "SIGTERM",
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {
                "NetworkMode": networks[0] if networks else "bridge",
                "Mounts": [*map(dict, mounts), seen],
                "CapDrop": ["ALL"],
                # It reads and gives away what the job's user owns.
                "CapAdd": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
                "SecurityOpt": ["no-new-privileges"],
                "PidsLimit": _PIDS,
                "LogConfig": {"Type": "json-file", "Config": {"max-file": "1", "max-size": "10m"}},
            },
        }


@functools.cache
def package(parts: Sequence[str], folder: str) -> tuple[Entry, ...]:
    """Return parts of this package as files of a folder, which everybody may read."""
    top = Path(airflow_dla.__file__).parent
    sources = sorted(path for part in parts for path in ([top / part] if part.endswith(".py") else (top / part).rglob("*.py")))
    if not sources:
        raise PlaceUnavailable(f"the package at {top} is not a folder of sources, of which a part goes into each helper container")
    folders = {parent for path in sources for parent in path.relative_to(top).parents}
    made = [Entry(path=f"{folder}/{path}".removesuffix("/."), mode=0o755) for path in sorted(folders)]
    return (*made, *(Entry(path=f"{folder}/{path.relative_to(top)}", data=path.read_bytes(), mode=0o644) for path in sources))
