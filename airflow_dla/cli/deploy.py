"""``airflow dla deploy``: what a cluster is given before jobs run there, as files to read, change and apply."""

from __future__ import annotations

import shutil
from argparse import Namespace
from pathlib import Path
from typing import Final

import airflow_dla
from airflow_dla.cli.answer import Answer
from airflow_dla.cli.running import command
from airflow_dla.errors import InvalidSpec

#: The files as the package has them.
FILES: Final = Path(airflow_dla.__file__).parent / "deploy"


@command
def deploy(args: Namespace) -> Answer:
    """Write the kustomizations and the Helm values into a folder that is new or empty."""
    folder = Path(args.folder).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidSpec(f"{folder} is there and not empty; name a new folder: nothing of yours is overwritten")
    shutil.copytree(FILES, folder, dirs_exist_ok=True)
    written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    said = [*(f"{folder}/{name}" for name in written), "", f"next: read them, then kubectl apply -k {folder}/kubernetes/base"]
    return Answer({"folder": str(folder), "files": written}, "\n".join(said))
