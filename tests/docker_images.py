"""Images for tests, made on this machine without any registry, and kept for the next engine."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from docker_daemon import Engine

ROOT = Path(__file__).parents[1]

#: Where Debian's releases are when this machine's apt names no such place; the last one keeps the old ones.
MIRRORS = ("http://deb.debian.org/debian", "http://archive.debian.org/debian")

_DROPPED = ("dev/*", "proc/*", "sys/*", "run/*", "tmp/*", "var/cache/*", "var/lib/apt/lists/*", "var/log/*")
_UNREAD = tuple(f"usr/share/{name}/*" for name in ("doc", "info", "locale", "man"))
_TOOLS = ("cat", "cp", "dd", "echo", "env", "false", "head", "id", "ls", "mkdir", "printf", "rm", "seq", "sleep", "true", "wc", "yes")


class Unbuildable(Exception):
    """Raised when this machine cannot make an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Debian:
    """A small Debian with its own Python.

    Parameters
    ----------
    name : str
        What the image is called.
    suite : str
        The release.
    python : str
        The version of Python that it brings.
    wheels : sequence of str
        Requirements, without any that they have themselves, pure Python.
    """

    name: str
    suite: str
    python: str
    wheels: tuple[str, ...] = ()
    packages: tuple[str, ...] = ("busybox-static", "python3")
    environment: tuple[str, ...] = ("LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """One static program under several names, and nothing else.

    Parameters
    ----------
    name : str
        What the image is called.
    programs : sequence of str
        Its commands.
    """

    name: str
    programs: tuple[str, ...]
    environment: tuple[str, ...] = ("PATH=/bin",)


Recipe = Debian | Tools


def _pinned(package: str) -> str:
    found = re.search(rf"^{package}==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found, f"constraints.txt does not name {package}"
    return found[0]


#: Python as the package itself needs it, with what `airflow_dla.artifacts` imports.
BASE = Debian(name="base", suite="bookworm", python="3.11", wheels=(_pinned("fsspec"),))
#: Only another Python: the oldest that a Debian has and that is not older than 3.8.
FOREIGN = Debian(name="foreign", suite="bullseye", python="3.9")
#: A shell, no Python.
BARE = Tools(name="bare", programs=("kill", "sh", *_TOOLS))
#: Neither.
SHELL_LESS = Tools(name="shell-less", programs=_TOOLS)


def image(engine: Engine, recipe: Recipe) -> str:
    """Return the name of a recipe's image in an engine; it is made when the engine has none of this recipe.

    Raises
    ------
    Unbuildable
        When it is nowhere, and this machine cannot make it.
    """
    name, tag = f"dla-test-{recipe.name}", _digest(recipe)
    with engine.client(timeout_s=300) as client:
        if not client.images(f"{name}:{tag}"):
            changes = [f"ENV {variable}" for variable in recipe.environment]
            client.import_image(src=str(archive(recipe)), repository=name, tag=tag, changes=changes)
            assert client.images(f"{name}:{tag}"), f"the engine at {engine.host} did not take {name}:{tag}"
    return f"{name}:{tag}"


def archive(recipe: Recipe) -> Path:
    """Return a recipe's root file system as a tar file, from the cache or made now."""
    made = _cache() / f"{recipe.name}-{_digest(recipe)}.tar"
    with _alone(made.with_suffix(".lock")):
        if not made.exists():
            part = made.with_suffix(".part")
            _bootstrap(recipe, part) if isinstance(recipe, Debian) else _pack(recipe, part)
            part.replace(made)
    return made


def mirrors(folder: Path = Path("/etc/apt")) -> tuple[str, ...]:
    """Return where Debian's releases may be: first where apt looks for them, by its lists or its deb822 files."""
    texts = [
        path.read_text()
        for pattern in ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources")
        for path in folder.glob(pattern)
    ]
    lines = [line.split("#")[0] for text in texts for line in text.splitlines()]
    found = [url.rstrip("/") for line in lines if re.match(r"deb\s|URIs:", line) for url in re.findall(r"https?://\S+", line)]
    likely = sorted([url for url in found if "security" not in url], key=lambda url: not url.endswith("/debian"))
    return tuple(dict.fromkeys([*likely, *MIRRORS]))


def _bootstrap(recipe: Debian, made: Path) -> None:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise Unbuildable(f"the image {recipe.name!r} is made by root with debootstrap; on Debian: apt-get install debootstrap")
    tree = made.with_suffix(".tree")  # beside it: whoever is next removes what was left half done
    try:
        _unpack_debian(recipe, tree)
        if recipe.wheels:
            target = tree / f"usr/local/lib/python{recipe.python}/dist-packages"
            wanted = ["--no-deps", "--only-binary=:all:", f"--python-version={recipe.python}", f"--target={target}", *recipe.wheels]
            _run([sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", *wanted])
        excluded = [f"--exclude=./{pattern}" for pattern in (*_DROPPED, *_UNREAD)]
        _run(["tar", "--create", f"--file={made}", f"--directory={tree}", "--numeric-owner", *excluded, "."])
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def _unpack_debian(recipe: Debian, tree: Path) -> None:
    failures = []
    for mirror in mirrors():
        shutil.rmtree(tree, ignore_errors=True)
        try:
            _run(["debootstrap", "--variant=minbase", f"--include={','.join(recipe.packages)}", recipe.suite, str(tree), mirror])
        except Unbuildable as error:
            failures.append(str(error))
        else:
            return
    raise Unbuildable("\n".join(failures))


def _pack(recipe: Tools, made: Path) -> None:
    with tarfile.open(archive(BASE)) as base:
        program = base.extractfile("./usr/bin/busybox")
        assert program is not None, "the base image lacks busybox"
        content = program.read()
    first, *others = recipe.programs
    with tarfile.open(made, "w") as tar:
        tar.addfile(_member(f"bin/{first}", size=len(content)), io.BytesIO(content))
        for other in others:
            tar.addfile(_member(f"bin/{other}", type=tarfile.LNKTYPE, linkname=f"bin/{first}"))
        tar.addfile(_member("tmp", type=tarfile.DIRTYPE, mode=0o1777))


def _member(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for field, value in {"mode": 0o755, **fields}.items():
        setattr(made, field, value)
    return made


def _digest(recipe: Recipe) -> str:
    source = f"{recipe} {_DROPPED} {_UNREAD} {platform.machine()}"
    return hashlib.sha256((source if isinstance(recipe, Debian) else source + _digest(BASE)).encode()).hexdigest()[:12]


def _cache() -> Path:
    made = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-dla" / "test-images"
    made.mkdir(parents=True, exist_ok=True)
    return made


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Let one process at a time make what a lock is for."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise Unbuildable(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout[-2000:]}")
