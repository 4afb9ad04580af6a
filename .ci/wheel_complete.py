"""Fail when the wheel lacks a file that it needs, or holds one that it must not."""

import sys
import zipfile
from pathlib import Path

#: Beside every Python file of the package, and what a cluster is given.
NEEDED = ("airflow_dla/py.typed", "licenses/LICENSE", "entry_points.txt")


def main(wheel: str) -> int:
    """Compare a wheel with the package it was built from; print what is wrong and return the exit status."""
    held = zipfile.ZipFile(wheel).namelist()
    sources = [str(path) for path in (*Path("airflow_dla").rglob("*.py"), *Path("airflow_dla/deploy").rglob("*.*"))]
    wrong = [f"missing: {name}" for name in (*NEEDED, *sources) if not any(found.endswith(name) for found in held)]
    wrong += [f"does not belong there: {name}" for name in held if not name.startswith(("airflow_dla/", "airflow_dla-"))]
    print(f"{Path(wheel).name}: {len(held)} files, {Path(wheel).stat().st_size / 1024:.0f} KiB", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
