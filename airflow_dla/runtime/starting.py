"""Why a container could not start: what engines say of it, and what would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from airflow_dla.specs import ExitReason

#: Faults of the engine or its host: another node may do, or the same one later.
_NODE_FAULTS: Final[Mapping[str, str]] = {
    "could not select device driver": "the engine cannot hand out GPUs; install nvidia-container-toolkit on its host",
    "unknown device": "a GPU that was granted is not there; compare nvidia-smi -L with the node's gpu_ids",
    "no space left": "the engine's disk is full; free some on its host",
    "resource temporarily unavailable": "the engine's host can start no more processes; look at what else runs there",
    "context deadline exceeded": "the engine took too long; look at its load and its log",
}
_SHOWN: Final = 300


def why_not_started(words: str, program: str) -> tuple[ExitReason, str]:
    """Explain what an engine, or the init that it puts before a program, says of one that could not start.

    Parameters
    ----------
    words : str
        As the engine said it; kept, shortened, in the message.
    program : str
        The first word of the command line.

    Returns
    -------
    reason : `ExitReason`
        ``lost`` where the node is at fault, else ``user_error``.
    message : str

    Examples
    --------
    >>> print(*why_not_started('exec: "train": executable file not found in $PATH', "train"))
    user_error command not found: 'train'; name one that is in the image, or one of the code folder as ./train (exec: "train": ...)
    """
    said = words.lower()
    faulty = next((advice for mark, advice in _NODE_FAULTS.items() if mark in said), None)
    reason = ExitReason.USER_ERROR if faulty is None else ExitReason.LOST
    return reason, f"{faulty or _advice(said, program)} ({words[-_SHOWN:]})"


def _advice(said: str, program: str) -> str:
    known = {
        "exec format error": "the program is for another processor, or a script without #!; use an image of the engine's architecture",
        "setting rlimit": "the engine may not raise this limit; ask for less with ulimits in overrides",
        "unable to apply caps": "the engine has not the rights that were asked for; leave privileged and cap_add out of overrides",
        "permission denied": f"{program!r} may not be executed; chmod +x it, or name its interpreter first",
        "executable file not found": _not_found(program),
        "no such file or directory": _not_found(program),
    }
    return next((advice for mark, advice in known.items() if mark in said), "the engine refused it; correct what it names")


def _not_found(program: str) -> str:
    if program.rpartition("/")[2] in {"sh", "bash"}:
        return f"there is no shell {program!r}; name the program itself in entrypoint=, or use an image with a shell"
    near = "" if "/" in program else f", or one of the code folder as ./{program}"
    return f"command not found: {program!r}; name one that is in the image{near}"
