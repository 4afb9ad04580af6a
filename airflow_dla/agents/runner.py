"""The runner: calls the user's function or command and says what came of it.

    python FOLDER/agents run JOBDIR [PARENT [LOCAL_RANK]]

It reads ``job.json``, joins the attempt's limits, sets seeds and threads, runs the
work in the code folder, checks that every output was written and exits with 0, or
with 1 after a line of kind ``error``. It dies with its parent. Of a distributed job's
several processes here it starts one each, or is that of ``LOCAL_RANK``.
"""

from __future__ import annotations

import importlib
import inspect
import os
import random
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, NoReturn, Sequence

from . import command, limits, ranks
from .ending import CRASHES, end_of, last_line, refuse_empty
from .job import Job, Stop, scalar
from .processes import die_with_parent
from .protocol import JobError, JobFile, JobFolder, Lines, read_json

#: What a program prints when it could not get memory.
OUT_OF_MEMORY = (b"CUDA out of memory", b"DefaultCPUAllocator: can't allocate memory", b"MemoryError", b"std::bad_alloc")

_MESSAGE = 2_000
_MORE_MEMORY = "ask for more memory or make batches smaller"


def main(arguments: Sequence[str]) -> int:
    """Run the job of a folder; return the exit status."""
    folder = JobFolder(Path(arguments[0]))
    if len(arguments) > 1:
        die_with_parent(int(arguments[1]))
    if len(arguments) > 2:  # noqa: PLR2004 - one of several ranks: it has the limits of the runner that started it
        return attempt(folder, lambda *_: None, int(arguments[2]))
    return attempt(folder, _join_limits)


def attempt(folder: JobFolder, prepare: Callable[[JobFile, JobFolder], None], local_rank: int | None = None) -> int:
    """Run the job of a folder in this process, or all its ranks or one, after its process was prepared; return the exit status."""
    job = JobFile.read(folder.job)
    lines = Lines(job.nonce, 1, folder.lines)
    try:
        prepare(job, folder)
        if job.ranks > 1 and local_rank is None:
            return _spread(job, folder, lines)
        folder = ranks.enter(job, folder, local_rank or 0)
        lines = ranks.RankLines(job, folder) if job.part else lines
        _run(job.resized(folder), folder, lines)
    except JobError as error:
        return _failed(lines, error.reason, str(error))
    except MemoryError as error:
        traceback.print_exc()
        return _failed(lines, "out_of_memory", f"MemoryError: {error}; {_MORE_MEMORY}")
    return 0


def _join_limits(job: JobFile, folder: JobFolder) -> None:
    found = read_json(folder.cgroups) or {}
    try:
        limits.join(found.get("folders", ()), lambda: job.resized(folder).cpu_ids)
    except OSError as error:
        raise JobError(f"the job's limits went away before it started: {error}", "lost") from error


def _spread(job: JobFile, folder: JobFolder, lines: Lines) -> int:
    code = ranks.run_all(job, folder, lines)
    if code < 0:
        _end_likewise(-code)
    return code


def _failed(lines: Lines, reason: str, message: str) -> int:
    _flush()
    one_line = " ".join(message.split())[:_MESSAGE]
    lines.say("error", reason=reason, message=one_line)
    return 1


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _run(job: JobFile, folder: JobFolder, lines: Lines) -> None:
    for name in job.outputs:
        folder.output(name).mkdir(parents=True, exist_ok=True)
    folder.checkpoint.mkdir(exist_ok=True)
    folder.code.mkdir(exist_ok=True)
    os.chdir(str(folder.code))
    if isinstance(job.entrypoint, str):
        _run_function(job, folder, lines)
    else:
        _run_command(job, folder, lines)
    for name in () if folder.rank else job.outputs:
        refuse_empty(name, folder.output(name))
        lines.say("output", name=name, path=str(folder.output(name)))


# --- functions -----------------------------------------------------------------------


def _run_function(job: JobFile, folder: JobFolder, lines: Lines) -> None:
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: _asked_to_stop(stop))

    def said(kind: str, **fields: Any) -> None:
        _flush()
        lines.say(kind, **fields)

    function = _imported(job, folder.code)
    _settle(job.seed, job.threads)
    result = _called(function, Job(job, folder, said, stop))
    metrics = returned_metrics(job.entrypoint, result)
    _flush()
    if metrics:
        lines.say("metric", values=metrics)


def _asked_to_stop(stop: Stop) -> None:
    stop.asked = True
    if not stop.looked:
        raise SystemExit(128 + int(signal.SIGTERM))


def _imported(job: JobFile, code: Path) -> Callable[[Job], Any]:
    """Import the entrypoint; the code folder comes first."""
    sys.path.insert(0, str(code))
    sys.argv = [job.entrypoint]
    _find_ourselves()
    random.seed(job.seed)
    module_name, _, function_name = job.entrypoint.partition(":")
    module = _guarded(job.entrypoint, lambda: _module(job.entrypoint, module_name, code))
    function = getattr(module, function_name, None)
    if not callable(function):
        named = ", ".join(name for name, value in vars(module).items() if inspect.isfunction(value)) or "none"
        raise JobError(f"entrypoint {job.entrypoint!r}: {module.__file__} has no function {function_name!r}; it has {named}")
    _refuse_signature(job.entrypoint, function)
    found: Callable[[Job], Any] = function
    return found


def _find_ourselves() -> None:
    """Make ``airflow_dla`` importable for entrypoints of its own where it is not installed; last on the path."""
    package = Path(__file__).resolve().parents[1]
    if package.name == "airflow_dla":
        sys.path.append(str(package.parent))


def _module(entrypoint: str, name: str, code: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        there = ", ".join(sorted(path.name for path in code.iterdir())[:20]) or "nothing"
        held = f"the job's code folder holds {there}: check code= and entrypoint="
        raise JobError(f"entrypoint {entrypoint!r}: there is no module {error.name!r}; {held}") from None


def _refuse_signature(entrypoint: str, function: Callable[..., Any]) -> None:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise JobError(
            f"entrypoint {entrypoint!r} must take one argument, the job; it is {function.__name__}{inspect.signature(function)}"
        ) from None
    except ValueError:
        return  # a builtin has no signature to look at


def _settle(seed: int, threads: int) -> None:
    """Seed and limit the libraries that the user's module has imported; we import none of them."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    if torch is not None:
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
    random.seed(seed)


def _called(function: Callable[[Job], Any], job: Job) -> Any:
    return _guarded(getattr(function, "__name__", "entrypoint"), lambda: function(job))


def _guarded(what: str, call: Callable[[], Any]) -> Any:
    """Call the user's code; its traceback goes to the log, one line of it to the caller."""
    try:
        return call()
    except (MemoryError, JobError) as error:
        if isinstance(error, JobError):
            _print_traceback(error)
        raise
    except SystemExit as error:
        if error.code in (None, 0):
            return None
        raise JobError(f"{what} called sys.exit({error.code!r})") from None
    except BaseException as error:  # noqa: BLE001 - whatever the user's code raises is told, never hidden
        _print_traceback(error)
        _raise_told(error)


def _print_traceback(error: BaseException) -> None:
    """Print where it went wrong, without our own frames."""
    ours = str(Path(__file__).resolve().parent)
    place = error.__traceback__
    while place is not None and place.tb_next is not None and place.tb_frame.f_code.co_filename.startswith(ours):
        place = place.tb_next
    sys.stdout.flush()
    traceback.print_exception(type(error), error, place)


def _raise_told(error: BaseException) -> NoReturn:
    text = f"{type(error).__name__}: {error}"
    out_of_memory = type(error).__name__ == "OutOfMemoryError" or any(mark.decode() in text for mark in OUT_OF_MEMORY)
    raise JobError(text, "out_of_memory" if out_of_memory else "user_error") from None


def returned_metrics(entrypoint: str, result: Any) -> dict[str, Any]:
    """Return the metrics that a function returned.

    Raises
    ------
    JobError
        If it returned anything but None or scalars by name.
    """
    if result is None:
        return {}
    if not isinstance(result, dict):
        way_out = "return metrics as scalars by name, such as {'accuracy': 0.97}, and write all else to an output"
        raise JobError(f"{entrypoint} returned {type(result).__name__}; {way_out}")
    try:
        return {str(name): scalar(str(name), value) for name, value in result.items()}
    except JobError as error:
        raise JobError(f"{entrypoint} returned what is no metric: {error}") from None


# --- commands ------------------------------------------------------------------------


def _run_command(job: JobFile, folder: JobFolder, lines: Lines) -> None:
    words = command.argv(job, folder)
    readings = command.Readings(job.metrics, lambda values: _say_metrics(lines, values)) if job.metrics and not folder.rank else None
    code, tail = command.run(words, folder.code, readings)
    if code == 0:
        return
    tail = tail or end_of(folder.log)
    said = last_line(tail)
    if any(mark in tail for mark in OUT_OF_MEMORY):
        raise JobError(f"{' '.join(job.entrypoint)} ran out of memory: {said}; {_MORE_MEMORY}", "out_of_memory")
    after = f"; its log ends with: {said}" if said else ""
    if code > 0:
        raise JobError(f"{' '.join(job.entrypoint)} exited with status {code}{after}")
    reason, how = ("user_error", "crashed with") if -code in CRASHES else ("killed", "was ended from outside by")
    lines.say("error", reason=reason, message=f"{' '.join(job.entrypoint)} {how} {signal.Signals(-code).name}{after}")
    _end_likewise(-code)


def _say_metrics(lines: Lines, values: Dict[str, float]) -> None:
    lines.say("metric", values={name: scalar(name, value) for name, value in values.items()})


def _end_likewise(number: int) -> None:
    """End by the signal that ended the command, so that the keeper sees the same."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
