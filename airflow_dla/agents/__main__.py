"""Start from anywhere: ``python FOLDER/agents run|keep|enter|inside|beside|fetch|stay|door JOBDIR …``.

The folder is loaded as a package of its own name, so that nothing beside it becomes
importable and the user's own modules can be called ``job`` or ``limits``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

PACKAGE = "dla_agents"

#: What each role runs.
ROLES = {
    "run": "runner", "keep": "keeper", "enter": "enter", "inside": "inside",
    "beside": "mate", "fetch": "fetch", "stay": "stay", "door": "door",
}  # fmt: skip


def load_package(folder: Path) -> None:
    """Load the folder as the package `PACKAGE`, without touching ``sys.path``."""
    spec = importlib.util.spec_from_file_location(PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} holds no __init__.py; mount the whole agents folder")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)


def main(arguments: list[str]) -> int:
    """Run what the first argument says, see `ROLES`."""
    here = Path(__file__).resolve().parent
    if sys.path and Path(sys.path[0]).resolve() == here:
        del sys.path[0]
    load_package(here)
    role, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if role not in ROLES:
        sys.stderr.write(f"usage: python {here} {'|'.join(ROLES)} JOBDIR, got {role!r}\n")
        return 2
    module = importlib.import_module(f"{PACKAGE}.{ROLES[role]}")
    return int(module.main(rest))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
