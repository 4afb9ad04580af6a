"""The steps of a run while it goes, one line for each on a terminal or in a log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from airflow_dla.specs.grants import describe_amounts


@dataclass(slots=True)
class Step:
    """One step of the run.

    Parameters
    ----------
    name : str
        The task's id.
    state : str
        ``none``, ``running``, and in the end what Airflow calls it.
    began : float
        Monotonic seconds; 0 before it began.
    seconds : float
        How long it took, with its waiting.
    attempt : int
        Airflow's try.
    error : str
        What went wrong, empty when nothing did.
    """

    name: str
    state: str = "none"
    began: float = 0.0
    seconds: float = 0.0
    attempt: int = 1
    error: str = ""


class Shown:
    """Writes one line for each step, when it ends; on a terminal also which one runs.

    Parameters
    ----------
    stream : text file
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def began(self, step: Step) -> None:
        """Say who runs, on a line that its end overwrites."""
        if self._stream.isatty():
            self._write(f"  {step.name:<10} running …", end="\r")

    def ended(self, step: Step, granted: Mapping[str, float]) -> None:
        """Say how a step ended, after how many seconds, with what."""
        self._write(f"  {step.name:<10} {step.state:<8} {step.seconds:5.1f} s   {describe_amounts(granted) or 'nothing was granted'}")

    def _write(self, text: str, end: str = "\n") -> None:
        self._stream.write(text + end)
        self._stream.flush()
