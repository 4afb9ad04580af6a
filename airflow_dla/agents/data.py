"""What is in a folder of plain files, as tables, arrays or streams; each library is imported when it is used."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, Mapping, Sequence

from .protocol import JobError

_TABLES = (".parquet", ".csv", ".jsonl")
_ARRAYS = (".safetensors", ".npz", ".npy")


def library(name: str, purpose: str) -> Any:
    """Import an optional library.

    Raises
    ------
    JobError
        If it is not installed where the job runs; names what needs it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        raise JobError(f"{purpose} needs {package}, which is not installed where the job runs: pip install {package}") from error


def files(folder: Path) -> list[Path]:
    """Return every file below a folder, or the file itself, in a fixed order."""
    if folder.is_file():
        return [folder]
    return sorted(path for path in folder.rglob("*") if path.is_file())


def frame(folder: Path) -> Any:
    """Read the tables of a folder, one below the other, as a pandas DataFrame."""
    tables = _of_one_kind(folder, _TABLES, "frame()")
    pandas = library("pandas", "frame()")
    readers = {".parquet": pandas.read_parquet, ".csv": pandas.read_csv, ".jsonl": lambda path: pandas.read_json(path, lines=True)}
    read = [readers[path.suffix](path) for path in tables]
    return read[0] if len(read) == 1 else pandas.concat(read, ignore_index=True)


def write_frame(table: Any, path: Path) -> None:
    """Write a pandas DataFrame as ``.parquet``, ``.csv`` or ``.jsonl``, by the file's name."""
    if path.suffix not in _TABLES:
        raise JobError(f"write_frame writes {', '.join(_TABLES)}, got {path.name!r}")
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)


def arrays(folder: Path) -> dict[str, Any]:
    """Read the arrays of a folder as numpy arrays by name; those of ``x.npy`` are called ``x``."""
    found: Dict[str, Any] = {}
    for path in _of_one_kind(folder, _ARRAYS, "arrays()"):
        found.update(_arrays_of(path))
    return found


def _arrays_of(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        return dict(library("safetensors.numpy", "arrays()").load_file(str(path)))
    # Pickled objects in these files would run code of whoever wrote them.
    loaded = library("numpy", "arrays()").load(str(path), allow_pickle=False)
    if path.suffix == ".npy":
        return {path.stem: loaded}
    with loaded:
        return {name: loaded[name] for name in loaded.files}


def write_tensors(tensors: Mapping[str, Any], path: Path, metadata: Mapping[str, str] | None) -> None:
    """Write numpy arrays or torch tensors by name as safetensors; equal tensors give equal bytes."""
    bad = [name for name, value in tensors.items() if not hasattr(value, "dtype")]
    if bad or not tensors:
        raise JobError(f"write_tensors takes numpy arrays or torch tensors by name, got {', '.join(bad) or 'none'}")
    torch = any(type(value).__module__.partition(".")[0] == "torch" for value in tensors.values())
    ordered = {name: tensors[name] for name in sorted(tensors)}
    if torch:
        ordered = {name: value.detach().cpu().contiguous() for name, value in ordered.items()}
        library("safetensors.torch", "write_tensors()").save_file(ordered, str(path), dict(metadata or {}) or None)
        return
    numpy = library("numpy", "write_tensors()")
    contiguous = {name: numpy.ascontiguousarray(value) for name, value in ordered.items()}
    library("safetensors.numpy", "write_tensors()").save_file(contiguous, str(path), dict(metadata or {}) or None)


def stream(folder: Path | None, uri: str) -> Iterator[BinaryIO]:
    """Open each file for reading, one after the other; a URI is read in place."""
    if folder is not None:
        for path in files(folder):
            with path.open("rb") as file:
                yield file
        return
    for opened in library("fsspec", "stream()").open_files(uri, mode="rb"):
        with opened as file:
            yield file


def _of_one_kind(folder: Path, kinds: Sequence[str], wanted_by: str) -> list[Path]:
    there = files(folder)
    for kind in kinds:
        found: List[Path] = [path for path in there if path.suffix == kind]
        if found:
            return found
    names = ", ".join(path.name for path in there[:10]) or "nothing"
    raise JobError(f"{wanted_by} reads {', '.join(kinds)}; {folder} holds {names}: open its files with .path yourself")
