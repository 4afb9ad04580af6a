"""Which file system a path lies on: SQLite's locks and shared memory need a local one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

#: File systems whose locks and memory maps are not kept between machines.
NETWORK: Final = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse.beegfs", "fuse.ceph", "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs",
        "fuse.goofys", "fuse.juicefs", "fuse.mountpoint-s3", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre",
        "ncpfs", "nfs", "nfs4", "smb2", "smb3", "smbfs", "wekafs",
    }
)  # fmt: skip

_MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def network_file_system(path: Path) -> str | None:
    """Return the network file system that a path lies on, or None when it is local or unknown.

    Parameters
    ----------
    path : Path
        Absolute; it need not exist yet.
    """
    try:
        mountinfo = _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = file_system(path.resolve(), mountinfo)
    return kind if kind in NETWORK else None


def file_system(path: Path, mountinfo: str) -> str:
    r"""Return the type of the mount that a resolved path lies under.

    Parameters
    ----------
    path : Path
        Absolute, without symbolic links.
    mountinfo : str
        As in ``/proc/self/mountinfo``; of two mounts on one point the later hides the earlier.

    Returns
    -------
    str
        For example ``ext4``; empty when no mount holds the path.

    Examples
    --------
    >>> file_system(Path("/mnt/team/dla.db"), "21 1 8:1 / / rw - ext4 /dev/sda rw\n22 21 0:9 / /mnt/team rw - nfs4 host:/x rw")
    'nfs4'
    """
    longest, found = -1, ""
    for line in mountinfo.splitlines():
        mounted, _, described = line.partition(" - ")
        if not described:
            continue
        point = Path(_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), mounted.split(" ")[4]))
        if path.is_relative_to(point) and len(point.parts) >= longest:
            longest, found = len(point.parts), described.split(" ")[0]
    return found
