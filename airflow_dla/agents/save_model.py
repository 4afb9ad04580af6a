"""The job behind ``SaveModelOperator``: looks at a model's files before they get a version.

Entrypoint ``airflow_dla.agents.save_model:save``: input ``model``, output ``signature``
(one file, ``signature.json``). The keeper has verified every byte when this runs. No
framework is imported: what is read are headers.

A model that is a pickle is refused, whatever its name: loading it would run code of
whoever wrote it, on every machine that serves it.
"""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any, Dict, List

from .data import files
from .job import Job
from .protocol import JobError

_PICKLES = (".pkl", ".pickle", ".joblib")
_OBJECT_ARRAY = b"'|O'"
_LARGEST_HEADER = 100_000_000
_WAY_OUT = "save weights with job.outputs['model'].write_tensors(…) (safetensors) or export the model to ONNX"


def save(job: Job) -> Dict[str, float]:
    """Refuse pickles, read the signature, write it to the output ``signature``."""
    folder = job.inputs["model"].path
    found = files(folder)
    if not found:
        raise JobError(f"the model in {folder} has no files; write them to job.outputs['model'].path")
    for path in found:
        refuse_pickle(path, str(path.relative_to(folder)))
    signature = read_signature(folder)
    (job.outputs["signature"].path / "signature.json").write_text(json.dumps(signature, sort_keys=True), encoding="utf-8")
    return {"files": len(found), "bytes": sum(path.stat().st_size for path in found)}


def refuse_pickle(path: Path, name: str) -> None:
    """Refuse a file that would be unpickled when it is loaded.

    Parameters
    ----------
    path : path
    name : str
        For the message.

    Raises
    ------
    JobError
        Naming the file, how it was recognised and the way out.
    """
    why = _pickle_sign(path)
    if why is not None:
        raise JobError(f"the model's file {name!r} is a pickle ({why}): loading it runs code of whoever wrote it; {_WAY_OUT}")


def _pickle_sign(path: Path) -> str | None:
    """Return what gives a pickle away, None for anything else."""
    if any(suffix.lower() in _PICKLES for suffix in path.suffixes):
        return "by its name"
    if zipfile.is_zipfile(str(path)):
        return _zip_sign(path)
    with path.open("rb") as file:
        head = file.read(256)
    if len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5:  # noqa: PLR2004 - the opcode PROTO and its versions
        return "by its first bytes"
    return "an array of Python objects" if head.startswith(b"\x93NUMPY") and _OBJECT_ARRAY in head else None


def _zip_sign(path: Path) -> str | None:
    with zipfile.ZipFile(str(path)) as archive:
        for name in archive.namelist():
            if name.endswith(".pkl"):
                return f"torch.save wrote {name} into it"
            if name.endswith(".npy") and _OBJECT_ARRAY in archive.open(name).read(256):
                return f"{name} in it is an array of Python objects"
    return None


def read_signature(folder: Path) -> Dict[str, Any]:
    """Return names, dtypes and shapes of what a model takes, gives and holds.

    Returns
    -------
    dict
        ``{"inputs": […], "outputs": […]}`` from ``signature.json`` where the model has
        one, and ``"weights"`` from its safetensors files; each item is ``{"name", "dtype", "shape"}``.
    """
    said = folder / "signature.json"
    signature = _checked(said) if said.is_file() else {"inputs": [], "outputs": []}
    weights = [tensor for path in files(folder) if path.suffix == ".safetensors" for tensor in tensors_of(path)]
    return {**signature, "weights": weights} if weights else signature


def _checked(path: Path) -> Dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {side: [_tensor(item, f"{side}[{index}]") for index, item in enumerate(raw[side])] for side in ("inputs", "outputs")}
    except (ValueError, KeyError, TypeError) as error:
        raise JobError(
            f'signature.json must be {{"inputs": [{{"name", "dtype", "shape"}}, …], "outputs": […]}}, got {type(error).__name__}: {error}'
        ) from None


def _tensor(item: Any, where: str) -> Dict[str, Any]:
    shape = item["shape"]
    if not isinstance(shape, list) or not all(length is None or isinstance(length, int) for length in shape):
        raise ValueError(f"{where}.shape must be a list of whole numbers, null where any length will do, got {shape!r}")
    return {"name": str(item["name"]), "dtype": str(item["dtype"]), "shape": shape}


def tensors_of(path: Path) -> List[Dict[str, Any]]:
    """Read the header of a safetensors file: eight bytes of length, then JSON.

    Raises
    ------
    JobError
        If it is not one.
    """
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header: Dict[str, Any] = json.loads(file.read(length if length <= _LARGEST_HEADER else 0))
        tensors = sorted((name, entry) for name, entry in header.items() if name != "__metadata__")
        return [{"name": name, "dtype": entry["dtype"], "shape": entry["shape"]} for name, entry in tensors]
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise JobError(f"{path.name} is no safetensors file: its header cannot be read ({type(error).__name__}: {error})") from None
