"""Put this folder into a pod: the start of an archive of it.

    python AGENTS.zip CONTROL ROLE …

The archive's ``__main__`` is this file. It puts the folder to ``CONTROL/agents``, where the job
sees it too, and goes on as ``python CONTROL/agents ROLE CONTROL …``.
"""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Sequence


def unpack(archive: Path, control: Path) -> Path:
    """Unpack an archive's ``agents`` folder, in one step; return where it is."""
    target = control / "agents"
    if not target.exists():
        aside = control / f".agents-{os.getpid()}"
        shutil.rmtree(str(aside), ignore_errors=True)
        with zipfile.ZipFile(str(archive)) as packed:
            packed.extractall(str(aside), [name for name in packed.namelist() if name.startswith("agents/")])
        for path in [aside / "agents", *(aside / "agents").rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        (aside / "agents").rename(target)
        shutil.rmtree(str(aside))
    return target


def main(archive: Path, arguments: Sequence[str]) -> None:
    """Unpack, and become what the arguments say."""
    target = unpack(archive, Path(arguments[0]))
    os.execv(sys.executable, [sys.executable, str(target), arguments[1], arguments[0], *arguments[2:]])  # noqa: S606 - our own program


if __name__ == "__main__":
    main(Path(sys.argv[0]), sys.argv[1:])
