"""What is put into a helper container: enough of this package, and nothing else."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

from airflow_dla.runtime.docker.archives import Entry, archived
from airflow_dla.runtime.docker.mates import PARTS, package


def unpacked(data: bytes, folder: Path) -> None:
    """Unpack an archive as an engine does."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(folder, filter="tar")


def test_the_parts_of_the_package_are_enough_for_a_mate(tmp_path: Path) -> None:
    """They import each other, the standard library and fsspec only, and are not large."""
    data = archived(package(PARTS, "lib/airflow_dla"))
    unpacked(data, tmp_path)
    program = "import sys, airflow_dla.artifacts as a, airflow_dla.specs; print(a.__file__); print(*{n.split('.')[0] for n in sys.modules})"
    path = f"import sys; sys.path.insert(0, {str(tmp_path / 'lib')!r}); "
    said = subprocess.run([sys.executable, "-I", "-c", path + program], check=True, capture_output=True, text=True).stdout
    where, modules = said.splitlines()
    assert where.startswith(str(tmp_path))
    assert not {"airflow", "sqlalchemy", "numpy", "docker"} & set(modules.split())
    assert len(data) < 1 << 20


def test_a_last_file_appears_whole(tmp_path: Path) -> None:
    """It is a link to what was unpacked before, so no reader finds half of it."""
    entries = [Entry(path="c", mode=0o700), Entry(path="c/a.json", data=b"1")]
    data = archived(entries, last=Entry(path="c/job.json", data=b"{}"))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(found.name, found.islnk()) for found in archive][-2:] == [("c/.job.json", False), ("c/job.json", True)]
    unpacked(data, tmp_path)
    assert (tmp_path / "c" / "job.json").read_bytes() == b"{}"
