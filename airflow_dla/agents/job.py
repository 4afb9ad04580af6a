"""The job as the user's function sees it: inputs, arguments, metrics, checkpoints, outputs."""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Mapping, Tuple, Union

from . import data
from .checkpoints import complete_versions
from .protocol import NAME, JobError, JobFile, JobFolder

#: Says a line: kind and fields.
Say = Callable[..., None]


class Input:
    """Data that the job reads.

    Parameters
    ----------
    name : str
    folder : path or None
        Where its plain files lie; None for what is read in place.
    uri : str
        Its address.
    """

    def __init__(self, name: str, folder: Path | None, uri: str) -> None:
        self.name = name
        self.uri = uri
        self._folder = folder

    @property
    def path(self) -> Path:
        """Folder of its plain files.

        Raises
        ------
        JobError
            For an outside address that is streamed: it has no path.
        """
        if self._folder is None:
            raise JobError(f"input {self.name!r} is streamed from {self.uri} and has no path; use .stream(), or uri(…, mode='copy')")
        return self._folder

    def frame(self) -> Any:
        """Read its tables (``.parquet``, ``.csv``, ``.jsonl``) as one pandas DataFrame."""
        return data.frame(self.path)

    def arrays(self) -> dict[str, Any]:
        """Read its arrays (``.safetensors``, ``.npz``, ``.npy``) by name; never a pickle."""
        return data.arrays(self.path)

    def stream(self) -> Iterator[BinaryIO]:
        """Open its files for reading, one after the other."""
        return data.stream(self._folder, self.uri)


class Output:
    """What the job writes; it is published when the job succeeds.

    Parameters
    ----------
    name : str
    path : path
        An empty folder.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path

    def write_tensors(
        self, tensors: Mapping[str, Any], file: str = "tensors.safetensors", *, metadata: Mapping[str, str] | None = None
    ) -> Path:
        """Write numpy arrays or torch tensors by name, as safetensors."""
        data.write_tensors(tensors, self.path / file, metadata)
        return self.path / file

    def write_frame(self, table: Any, file: str = "data.csv") -> Path:
        """Write a pandas DataFrame; the file's name says the format: ``.parquet``, ``.csv``, ``.jsonl``."""
        data.write_frame(table, self.path / file)
        return self.path / file


class Checkpoint:
    """Where a job that is stopped or lost goes on.

    Parameters
    ----------
    path : path
        A plain folder that is restored before the start and saved when it is quiet.
    versions : path
        Checkpoints that were saved whole, by number.
    say : callable
    rank : int
        Of a distributed job; only the first saves.
    """

    def __init__(self, path: Path, versions: Path, say: Say, rank: int = 0) -> None:
        self.path = path
        self._rank = rank
        self._versions = versions
        self._say = say
        self._noted = False

    def load(self) -> Path | None:
        """Return the folder of the newest checkpoint, None when there is none."""
        saved = complete_versions(self._versions)
        if saved:
            return self._versions / str(saved[-1])
        return self.path if self.path.is_dir() and any(self.path.iterdir()) else None

    def save(self, source: Union[Callable[[Path], Any], str, Path]) -> Path:
        """Save a new checkpoint whole: a kill in between leaves the one before.

        Any rank but the first of a distributed job saves nothing, says so once, and gets `path`.

        Parameters
        ----------
        source : callable or path
            Called with an empty folder to write into; or a file or folder that is copied.
        """
        if self._rank:
            self._leave_to_first()
            return self.path
        saved = complete_versions(self._versions)
        number = (saved[-1] if saved else 0) + 1
        partial = self._versions / f"{number}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _fill(partial, source)
        if not any(partial.iterdir()):
            raise JobError(f"job.checkpoint.save: nothing was written into {partial}; write files into the folder that the function gets")
        final = self._versions / str(number)
        partial.rename(final)
        for old in saved[:-1]:
            shutil.rmtree(self._versions / str(old), ignore_errors=True)
        self._say("checkpoint", version=number, path=str(final))
        return final

    def _leave_to_first(self) -> None:
        if not self._noted:
            self._noted = True
            self._say("note", text=f"job.checkpoint.save does nothing on rank {self._rank}: rank 0 saves for all")


def _fill(folder: Path, source: Union[Callable[[Path], Any], str, Path]) -> None:
    if callable(source):
        source(folder)
        return
    path = Path(source)
    if path.is_dir():
        shutil.copytree(str(path), str(folder), dirs_exist_ok=True)
    else:
        shutil.copy2(str(path), str(folder))


class Stop:
    """Whether the job is to stop, and whether its function looks.

    A function that looks ends by itself; one that never looked is interrupted.
    """

    def __init__(self) -> None:
        self.asked = False
        self.looked = False


class Job:
    """One run of one function.

    Attributes
    ----------
    args : dict
        What the author gave; plain JSON.
    inputs, outputs : dict of name to `Input`, `Output`
    checkpoint : `Checkpoint`
    gpus : tuple of str
        Those that were granted.
    grant : dict of resource to float
        What it may use now, memory in GiB; changes when it is resized while it runs.
    threads : int
        Those that fit the granted CPUs; changes with them.
    seed, rank, world_size : int
        Of a distributed job, what torchrun's variables say; else rank 0 of 1. What any other
        rank than the first logs, saves and writes as outputs is not kept.
    logged : list of dict
        Everything said with `log`; kept by `fake` only.
    """

    def __init__(self, file: JobFile, folder: JobFolder, say: Say, stop: Stop | None = None) -> None:
        self.args: Dict[str, Any] = dict(file.args)
        self.seed = file.seed
        self.gpus: Tuple[str, ...] = file.gpu_ids
        self.rank = folder.rank
        self.world_size = int((file.part or {}).get("world_size", 1))
        self.inputs = {name: _input(name, ref, folder) for name, ref in file.inputs.items()}
        self.outputs: Dict[str, Output] = {name: Output(name, folder.output(name)) for name in file.outputs}
        self.checkpoint = Checkpoint(folder.checkpoint, folder.versions, say, folder.rank)
        self.logged: List[Dict[str, Any]] = []
        self._say = say
        self._stop = stop or Stop()
        self._file = file
        self._folder = folder

    @property
    def grant(self) -> Dict[str, float]:
        """What it may use now, by resource; read anew each time."""
        return self._file.resized(self._folder).amounts

    @property
    def threads(self) -> int:
        """Threads that fit the granted CPUs now; a function that follows them uses what it is given while it runs."""
        return self._file.resized(self._folder).threads

    @property
    def stopping(self) -> bool:
        """Whether the job is asked to stop: save a checkpoint and return.

        A function that has looked here is trusted to end by itself in the time of grace;
        one that never did is interrupted.
        """
        self._stop.looked = True
        return self._stop.asked

    def log(self, *, step: int | None = None, **values: Any) -> None:
        """Say metrics; they appear in the task log, the UI and the result.

        Parameters
        ----------
        step : int, optional
        **values
            Numbers, or scalars of numpy or torch.

        Raises
        ------
        JobError
            If a value is no number or a name breaks the rule for names.
        """
        numbers = {name: scalar(name, value) for name, value in values.items()}
        self._say("metric", values=numbers, **({} if step is None else {"step": int(step)}))

    @classmethod
    def fake(
        cls,
        inputs: Mapping[str, Union[str, Path]] | None = None,
        args: Mapping[str, Any] | None = None,
        *,
        outputs: Tuple[str, ...] = (),
        seed: int = 0,
        cpus: float = 1.0,
    ) -> Job:
        """Make a job for the unit test of a function; everything lies in a folder that goes with it.

        Parameters
        ----------
        inputs : mapping of name to path or URI
            A folder or file is read where it is.
        args : mapping
        outputs : tuple of str
            Names; others are made when they are used.
        seed : int
        cpus : float
            As if so many were granted.
        """
        root = tempfile.mkdtemp(prefix="dla-fake-")
        folder = JobFolder(Path(root))
        file = JobFile("fake.1", "0", "fake:fake", {"amounts": {"cpu": cpus}}, "", "fake", dict(args or {}), outputs=outputs, seed=seed)
        job = cls(file, folder, lambda kind, **fields: _remember(job, kind, fields))
        job.inputs = {name: _given(name, str(value)) for name, value in (inputs or {}).items()}
        job.outputs = _OnDemand(folder, outputs)
        folder.checkpoint.mkdir()
        weakref.finalize(job, shutil.rmtree, root, True)
        return job


class _OnDemand(Dict[str, Output]):
    """Outputs that are made when they are asked for."""

    def __init__(self, folder: JobFolder, names: Tuple[str, ...]) -> None:
        super().__init__()
        self._folder = folder
        for name in names:
            self.__missing__(name)

    def __missing__(self, name: str) -> Output:
        path = self._folder.output(name)
        path.mkdir(parents=True, exist_ok=True)
        self[name] = Output(name, path)
        return self[name]


def _remember(job: Job, kind: str, fields: Dict[str, Any]) -> None:
    if kind == "metric":
        values = fields.pop("values")
        job.logged.append({**fields, **values})


def _given(name: str, value: str) -> Input:
    return Input(name, None, value) if "://" in value else Input(name, Path(value), Path(value).absolute().as_uri())


def _input(name: str, ref: Mapping[str, Any], folder: JobFolder) -> Input:
    path = folder.input(name)
    there = path.exists()
    return Input(name, path if there else None, str(ref.get("uri") or path.as_uri()))


def scalar(name: str, value: Any) -> Union[float, str]:
    """Return a metric's value; a number that is not finite as text, since JSON has none.

    Raises
    ------
    JobError
        If the value is no number, or the name breaks the rule for names.

    Examples
    --------
    >>> scalar("accuracy", 0.5), scalar("loss", float("nan"))
    (0.5, 'nan')
    """
    if not NAME.fullmatch(name):
        raise JobError(f"metric {name!r}: a name has 1 to 63 of A-Z a-z 0-9 . _ - and begins and ends with a letter or digit")
    item = value.item() if _holds_one(value) else value
    if not isinstance(item, (int, float)):
        raise JobError(f"metric {name!r} must be a number, got {type(value).__name__}; write anything larger into an output")
    number = float(item)
    return number if math.isfinite(number) else repr(number)


def _holds_one(value: Any) -> bool:
    """Whether a value is a scalar, array or tensor of a library, with one number in it."""
    return hasattr(value, "item") and all(length == 1 for length in getattr(value, "shape", ()))
