"""Before anything is launched: resolve inputs, ship the code, look for what would fail later."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from airflow_dla.artifacts import pin
from airflow_dla.control.workspace import Workspace
from airflow_dla.errors import InvalidSpec, NotFound
from airflow_dla.specs import ArtifactRef, Entrypoint, ModelRef, Reference, UriRef

#: Largest code folder that is shipped with a job, in bytes.
MAX_CODE: Final = 20 * 2**20

_LEFT_OUT: Final = {
    "__pycache__",
    ".git",
    ".venv",
    "venv",
    "node_modules",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
}


def resolve_inputs(workspace: Workspace, inputs: Mapping[str, Reference]) -> tuple[dict[str, Reference], dict[str, Any]]:
    """Turn every input into an artifact that exists or a URI that is pinned.

    Returns
    -------
    inputs : dict
        Without those that may be missing and are.
    versions : dict
        For the lineage: which model version stood behind each alias.

    Raises
    ------
    NotFound
        If an artifact, a model version or a URI does not exist.
    """
    resolved: dict[str, Reference] = {}
    versions: dict[str, Any] = {}
    for name, reference in inputs.items():
        match reference:
            case ArtifactRef():
                _check_exists(workspace, name, reference.digest)
                resolved[name] = reference
            case UriRef():
                resolved[name] = reference if reference.pin else pin(reference)
            case ModelRef():
                version = workspace.registry.resolve(reference)
                if version is not None:
                    _check_exists(workspace, name, version.digest)
                    resolved[name] = ArtifactRef(digest=version.digest, kind="model")
                    versions[name] = f"{version.model}@{version.number}"
    return resolved, versions


def _check_exists(workspace: Workspace, name: str, digest: str) -> None:
    if not workspace.store.exists(digest):
        raise NotFound(
            f"input {name!r}: artifact {digest} is not in the store {workspace.store.url}; "
            "it was collected or belongs to another workspace: run the task that makes it again"
        )


def ship_code(workspace: Workspace, folder: Path) -> ArtifactRef | None:
    """Publish a code folder as an artifact; the same code has the same digest.

    Raises
    ------
    NotFound
        If there is no such folder.
    InvalidSpec
        If it holds more than 20 MiB.
    """
    if not folder.is_dir():
        raise NotFound(f"code folder {folder} does not exist; agent(code=…) is relative to the DAG file")
    files = sorted(_code_files(folder))
    size = sum(path.stat().st_size for path in files)
    if size > MAX_CODE:
        largest = max(files, key=lambda path: path.stat().st_size)
        raise InvalidSpec(
            f"code folder {folder} holds {size / 2**20:.1f} MiB, more than {MAX_CODE // 2**20} MiB "
            f"(largest: {largest.relative_to(folder)}); "
            "name a smaller folder with agent(code='src'), pass data as inputs, or bake the code into the image with code=None"
        )
    if not files:
        return None
    with tempfile.TemporaryDirectory(prefix="dla-code-") as copied:
        for path in files:
            target = Path(copied) / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return workspace.store.publish(Path(copied), kind="code")


def _code_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in _LEFT_OUT or path.suffix in {".pyc", ".pyo"} or path.is_symlink():
            continue
        if path.is_dir():
            yield from _code_files(path)
        elif path.is_file():
            yield path


def check_entrypoint(entrypoint: Entrypoint, folder: Path | None, *, in_image: bool = False) -> None:
    """Refuse an entrypoint whose module, function or script is missing, importing nothing.

    Parameters
    ----------
    entrypoint : `Entrypoint`
    folder : path or None
        The code folder; None when everything is in the image, which is not looked into.
    in_image : bool
        Whether it may run in an image: what is not in the code folder may be there.

    Raises
    ------
    NotFound
        Naming what is missing and where it was looked for.
    """
    if folder is None:
        return
    if entrypoint.function:
        _check_function(entrypoint.function, folder, in_image=in_image)
    else:
        _check_command(entrypoint.command, folder, in_image=in_image)


def _check_function(function: str, folder: Path, *, in_image: bool) -> None:
    module, _, name = function.partition(":")
    source = _shipped_source(module, folder) or (None if in_image else _installed_source(module))
    if source is None and not in_image:
        raise NotFound(f"entrypoint {function!r}: there is no module {module!r} in {folder} or among the installed packages")
    defined = None if source is None else _defined_names(source)
    if defined is not None and name not in defined:
        near = ", ".join(sorted(found for found in defined if not found.startswith("_"))) or "nothing"
        raise NotFound(f"entrypoint {function!r}: {source} does not define {name!r}; it defines {near}")


def _shipped_source(module: str, folder: Path) -> Path | None:
    """Find a module's file in the code folder, which comes before all that is installed."""
    path = folder.joinpath(*module.split("."))
    return next((candidate for candidate in (path.with_suffix(".py"), path / "__init__.py") if candidate.is_file()), None)


def _installed_source(module: str) -> Path | None:
    """Find a module's file among the installed packages, whose parents are not imported."""
    top, *rest = module.split(".")
    spec = sys.modules[top].__spec__ if top in sys.modules else importlib.util.find_spec(top)
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        return None
    if not rest:
        return Path(spec.origin or "")
    for location in spec.submodule_search_locations or ():
        path = Path(location).joinpath(*rest)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def _defined_names(source: Path) -> set[str] | None:
    """Return the names a module binds at its top; None where that cannot be known by reading."""
    if source.suffix != ".py":
        return None
    try:
        tree = ast.parse(source.read_bytes())
    except SyntaxError as error:
        raise InvalidSpec(f"entrypoint: {source}, line {error.lineno}: {error.msg}") from None
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Import() | ast.ImportFrom():
                names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
            case ast.Assign(targets=[ast.Name(id=bound)]) | ast.AnnAssign(target=ast.Name(id=bound)):
                names.add(bound)
            case ast.If() | ast.Try() | ast.With():
                return None
    return None if "*" in names else names


def _check_command(command: tuple[str, ...], folder: Path, *, in_image: bool) -> None:
    program = Path(command[0]).name
    if program.startswith("python") and len(command) > 1 and command[1].endswith(".py"):
        script = command[1]
        if not Path(script).is_absolute() and not (folder / script).is_file():
            raise NotFound(f"entrypoint {list(command)}: there is no file {script!r} in the code folder {folder}")
    elif in_image:
        _check_shipped_program(command, folder)
    elif not program.startswith("python") and shutil.which(command[0]) is None and not (folder / command[0]).is_file():
        raise NotFound(f"entrypoint {list(command)}: there is no program {command[0]!r} on PATH or in {folder}")


def _check_shipped_program(command: tuple[str, ...], folder: Path) -> None:
    """Look for a program by its relative path: it begins in the code folder, wherever the image's own lie."""
    if "/" in command[0] and not command[0].startswith("/") and not (folder / command[0]).is_file():
        raise NotFound(f"entrypoint {list(command)}: there is no program {command[0]!r} in the code folder {folder}, where it would start")
