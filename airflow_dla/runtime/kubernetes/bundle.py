"""Our runner on its way into a pod: an archive of few kilobytes in a ConfigMap, and the commands of our helpers there."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import airflow_dla
from airflow_dla.errors import PlaceUnavailable

#: Where the attempt's volume is in our helpers; the job sees ``dla`` and ``agents`` of it.
CONTROL: Final = "/control"
#: Where our helpers find the archive, and ``fetch`` the job's description.
ARCHIVE: Final = "/opt/dla/boot/agents.zip"
JOB: Final = "/opt/dla/job/job.json"

#: What needs the rest of this package, and is no use in a pod.
_LEFT_OUT: Final = ("staging.py",)
_NAMED: Final = 12


@dataclass(frozen=True, slots=True)
class Bundle:
    """An archive of our runner.

    Parameters
    ----------
    name : str
        Another one for every content.
    data : bytes
        A zip that Python runs.
    """

    name: str
    data: bytes


@functools.cache
def bundle() -> Bundle:
    """Return the archive of ``airflow_dla/agents``; the same bytes for the same sources.

    Raises
    ------
    PlaceUnavailable
        If this package is not installed as a folder of sources.

    Examples
    --------
    >>> bundle().name[:11], len(bundle().data) < 2**20
    ('dla-runner-', True)
    """
    top = Path(airflow_dla.__file__).parent / "agents"
    sources = [path for path in sorted(top.glob("*.py")) if path.name not in _LEFT_OUT]
    if not sources:
        raise PlaceUnavailable(f"the package at {top.parent} is not a folder of sources, of which a part goes into each pod")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in [("__main__.py", top / "unpack.py"), *((f"agents/{path.name}", path) for path in sources)]:
            entry = zipfile.ZipInfo(name)  # its time is 1980: the same sources are the same bytes
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    return Bundle(f"dla-runner-{digest[:_NAMED]}", out.getvalue())


def fetch_command(
    owner: tuple[int, int], *, python: str = "python3", archive: str = ARCHIVE, control: str = CONTROL, job: str = JOB
) -> tuple[str, ...]:
    """Return the command of the helper that fetches before the job starts.

    Parameters
    ----------
    owner : (uid, gid)
        Of the job; its folders are given to it where the helper may.
    python : str
        In the helper's image.
    archive, control, job : str
        Paths in its container.
    """
    return (python, archive, control, "fetch", json.dumps({"job": job, "owner": list(owner)}))


def stay_command(owner: tuple[int, int], *, python: str = "python3", control: str = CONTROL) -> tuple[str, ...]:
    """Return the command of the helper that stays beside the job and publishes."""
    return (python, f"{control}/agents", "stay", control, json.dumps({"owner": list(owner)}))


def door_command(*words: str, python: str = "python3", control: str = CONTROL) -> tuple[str, ...]:
    """Return the command that does one thing in a helper's container, see ``agents.door``."""
    return (python, f"{control}/agents", "door", control, *words)
