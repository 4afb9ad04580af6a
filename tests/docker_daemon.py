"""A Docker engine of the test suite's own: what it is reached by, and the daemon behind it."""

from __future__ import annotations

import fcntl
import importlib
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The oldest API that the package works with.
OLDEST_API = (1, 41)

_PROGRAMS = {"dockerd": "docker.io", "ip": "iproute2", "setpriv": "util-linux"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine, as a place's connection names it.

    Parameters
    ----------
    host : str
        Its URL, as in ``DOCKER_HOST``.
    """

    host: str

    def client(self, *, timeout_s: float = 60) -> Any:
        """Return a new ``docker.APIClient``, to be used in a `with` statement, which closes it."""
        return _docker().APIClient(base_url=self.host, version="auto", timeout=timeout_s)

    def silence(self, *, timeout_s: float = 10) -> str | None:
        """Return why the engine cannot be used, or None when it answers."""
        try:
            self._connect(timeout_s)
            with _docker().APIClient(base_url=self.host, version=".".join(map(str, OLDEST_API)), timeout=timeout_s) as client:
                found = str(client.version(api_version=False)["ApiVersion"])
        except (OSError, _docker().errors.DockerException) as error:
            return f"no engine answers at {self.host}: {error}"
        oldest = ".".join(map(str, OLDEST_API))
        return None if version(found) >= OLDEST_API else f"the engine at {self.host} has API {found}; {oldest} or newer is needed"

    def _connect(self, timeout_s: float) -> None:
        """Fail before the client does, which leaves its socket open then."""
        if self.host.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as tried:
                tried.settimeout(timeout_s)
                tried.connect(self.host.removeprefix("unix://"))


class Daemon:
    """A dockerd in a folder of its own: socket, images, containers and bridge are nobody else's.

    It makes no rules for iptables, since those of a second engine on one machine replace those of the first: containers
    reach each other and this machine, not what is beyond it.
    """

    def __init__(self) -> None:
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix="dla-docker-", dir="/var/tmp"))
        self._held = (self.folder / "lock").open("w")
        fcntl.flock(self._held, fcntl.LOCK_EX)
        self.engine = Engine(host=f"unix://{self.folder}/docker.sock")
        self.bridge = _bridge(self.folder)
        self.options: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._add_bridge()
            self.start()
        except BaseException:
            self._clean()
            raise

    def start(self, *options: str) -> None:
        """Start the daemon, with more options like ``--live-restore``, and wait until it answers."""
        paths = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        command = ["dockerd", f"--host={self.engine.host}", *(f"--{option}={self.folder / name}" for option, name in paths.items())]
        command += [f"--bridge={self.bridge}", "--iptables=false", "--ip6tables=false", "--shutdown-timeout=5", *options]
        with (self.folder / "log").open("ab") as log:
            # It goes with the tests also when they are killed; Ctrl-C is for them alone: their fixtures stop it.
            command = ["setpriv", "--pdeathsig=TERM", *command]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.options = options
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while silence := self.engine.silence():
            log = (self.folder / "log").read_text()[-4000:]
            assert time.monotonic() < deadline, f"{silence}\n{log}"
            assert self._process is not None, "the daemon was stopped"
            assert self._process.poll() is None, f"dockerd ended with status {self._process.returncode}:\n{log}"
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the daemon: in order by default, as a crash would with SIGKILL."""
        if self._process is not None:
            self.resume()
            child = _read(self.folder / "exec/containerd/containerd.pid").decode()
            self._process.send_signal(how)
            self._process.wait(timeout=60)
            self._process = None
            _await_end(child)

    def restart(self, *options: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the daemon and start it again; containers live on only with ``--live-restore``, or after SIGKILL."""
        self.stop(how)
        self.start(*options)

    def pause(self) -> None:
        """Make the daemon unreachable: connections are taken, nothing is answered; containers go on."""
        assert self._process is not None, "the daemon was stopped"
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def recover(self) -> None:
        """Bring the daemon back to how a test expects it: running, without extra options, containers, or networks."""
        self.resume()
        if self._process is None or self._process.poll() is not None:
            self.start()
        with self.engine.client() as client:
            for found in client.containers(all=True, quiet=True):
                client.remove_container(found["Id"], force=True, v=True)
            client.prune_networks()
        if self.options:
            self.restart()

    def remove(self) -> None:
        """End whatever runs in the engine, then the engine; delete its bridge and its folder."""
        try:
            self.recover()
            self.stop()
        finally:
            self._clean()

    def processes(self) -> list[int]:
        """Return the ids of the processes that were started with a path of this daemon's folder: also containerd's."""
        return _processes(self.folder)

    def mounts(self) -> list[str]:
        """Return what is mounted below the folder, the innermost first."""
        return _mounts(self.folder)

    def _clean(self) -> None:
        _clean(self.folder)
        self._held.close()

    def _add_bridge(self) -> None:
        network = unused_network(Path("/proc/net/route").read_text())
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("address", "add", f"{network[1]}/{network.prefixlen}", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")


def missing() -> str | None:
    """Return why no engine can be started here, or None."""
    try:
        _docker()
    except ImportError:
        return "no Docker client; pip install airflow-dla[docker]"
    lacking = [program for program in _PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"no {', '.join(lacking)}; on Debian: apt-get install {' '.join(_PROGRAMS[program] for program in lacking)}"
    return None if os.geteuid() == 0 else "dockerd is started by root only; start an engine and name it in DOCKER_HOST"


def unused_network(routes: str) -> ipaddress.IPv4Network:
    """Return a network of 254 addresses in 10.0.0.0/8 that overlaps none of ``/proc/net/route``."""
    used = list(_networks(routes))
    candidates = ipaddress.IPv4Network("10.192.0.0/10").subnets(new_prefix=24)
    return next(network for network in candidates if not any(network.overlaps(other) for other in used))


def version(text: str) -> tuple[int, ...]:
    """Return the numbers of a dotted version: they compare, the text does not."""
    return tuple(int(part) for part in text.split("."))


def _networks(routes: str) -> Iterator[ipaddress.IPv4Network]:
    """Read every route but the default one; addresses are hexadecimal, in the machine's byte order."""
    for line in routes.splitlines()[1:]:
        address, mask = (int.from_bytes(bytes.fromhex(line.split()[column]), "little") for column in (1, 7))
        if mask:
            yield ipaddress.IPv4Network((address, str(ipaddress.IPv4Address(mask))))


def _docker() -> Any:
    """Import the client, which only some have, where it is used."""
    return importlib.import_module("docker")


def _sweep() -> None:
    """Clean up after daemons whose tests were killed: nobody holds their locks."""
    for lock in Path("/var/tmp").glob("dla-docker-*/lock"):
        with suppress(OSError), lock.open() as held:
            if time.time() - lock.stat().st_mtime > 60:  # a younger one may be about to be locked
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _clean(lock.parent)


def _clean(folder: Path) -> None:
    """End what was started in a daemon's folder, and delete it."""
    for pid in _processes(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for mount in _mounts(folder):
        subprocess.run(["umount", "--lazy", mount], check=False)
    if Path("/sys/class/net", _bridge(folder)).exists():
        _ip("link", "delete", _bridge(folder))
    shutil.rmtree(folder)


def _processes(folder: Path) -> list[int]:
    return sorted(int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if str(folder).encode() in _read(path))


def _mounts(folder: Path) -> list[str]:
    found = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [mount for mount in reversed(found) if mount.startswith(f"{folder}/")]


def _bridge(folder: Path) -> str:
    return f"dla{folder.name[-8:]}"


def _await_end(pid: str) -> None:
    """Wait for containerd, which ends after a daemon that was killed: the next one would think that it is still there."""
    deadline = time.monotonic() + 30
    while pid and Path("/proc", pid).exists():
        assert time.monotonic() < deadline, f"containerd {pid} did not end"
        time.sleep(0.01)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _read(path: Path) -> bytes:
    """Return a process's file, or nothing when it has ended meanwhile."""
    with suppress(OSError):
        return path.read_bytes()
    return b""
