"""SQLite is refused on file systems whose locks are not kept between machines."""

from pathlib import Path

import pytest

from airflow_dla.ledger.mounts import NETWORK, file_system, network_file_system

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw shared:5 master:2 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/me/local rw - xfs /dev/sdb rw
32 22 0:42 / /mnt/team\040share rw - cifs //server/share rw
33 22 0:43 / /over rw - tmpfs tmpfs rw
34 22 0:44 / /over rw - fuse.sshfs me@host: rw
a line that is no mount
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/dla.db", "ext4"),
        ("/home/me/dla.db", "nfs4"),
        ("/home/me/local/dla.db", "xfs"),
        ("/homes/dla.db", "ext4"),
        ("/mnt/team share/x/dla.db", "cifs"),
        ("/over/dla.db", "fuse.sshfs"),
    ],
)
def test_longest_and_latest_mount_holds_a_path(path: str, kind: str) -> None:
    """The mount is found by whole folders, spaces included, and the later of two hides the earlier."""
    assert file_system(Path(path), MOUNTS) == kind


def test_nothing_is_known_without_mounts() -> None:
    """An empty table names no file system."""
    assert file_system(Path("/x"), "") == ""


def test_known_network_file_systems() -> None:
    """Those that people meet are refused."""
    assert {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "lustre", "ceph"} <= NETWORK


def test_temporary_folder_is_local(tmp_path: Path) -> None:
    """The real table can be read; the tests run on a local disk."""
    assert network_file_system(tmp_path / "not" / "yet") is None
