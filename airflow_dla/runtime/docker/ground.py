"""What a Docker place needs of the ground its jobs stand on: where their files lie, and who fetches and publishes them.

A *mate*, a small process of ours beside the container, fetches what the job needs, keeps
checkpoints while it runs, and publishes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from airflow_dla.runtime.contract import Launch
from airflow_dla.runtime.facts import Staged, Stop
from airflow_dla.specs import ExitReason, Grant, JobFile

#: Where a container finds secrets that are files.
SECRETS: Final = "/run/secrets"

#: A bind mount as the engine's API writes it.
Mount = Mapping[str, Any]


class Ground(Protocol):
    """What a Docker place needs of the ground its jobs stand on."""

    @property
    def protected(self) -> tuple[str, ...]:
        """Return folders of the engine's host that no job may mount."""

    def resolve(self, folder: str) -> str:
        """Return where a folder of the engine's host really lies, as far as that can be seen from here."""

    def claimed(self, attempt: str) -> contextlib.AbstractContextManager[bool]:
        """Hold an attempt's launch; False when another process does."""

    def prepare(self, launch: Launch, owner: tuple[int, int]) -> Sequence[Mount]:
        """Put a job's files in place; return what to mount.

        Parameters
        ----------
        launch : `Launch`
        owner : (uid, gid)
            Who runs the container's program, and must be able to write.

        Raises
        ------
        NotReady
            While inputs are fetched.
        LaunchRefused
            If they cannot be put where the container's user can reach them.
        """

    def hand_over(self, attempt: str, secrets: Mapping[str, str], owner: tuple[int, int]) -> Mount:
        """Put secrets into files that are on no disk; return their mount."""

    def began(self, attempt: str, container: str) -> None:
        """Remember which container runs the attempt, and since when."""

    def age_s(self, attempt: str) -> float | None:
        """Return for how long the attempt has run; None when it never began."""

    def job(self, attempt: str) -> JobFile | None:
        """Return what was launched, with the grant that holds now; None for an attempt that never came here."""

    def resized(self, attempt: str, grant: Grant) -> None:
        """Remember, and tell the job, what it may use now."""

    def stop(self, attempt: str) -> Stop | None:
        """Return the stop that is wanted; its time counts in the seconds of `now`."""

    def mark_stop(self, attempt: str, reason: ExitReason) -> Stop:
        """Want a stop; the first one counts."""

    def now(self) -> float:
        """Return a time in seconds that only ever goes forward, the same for all who follow."""

    def said(self, attempt: str) -> tuple[Mapping[str, Any], ...]:
        """Return the lines that the runner said."""

    def staged(self, attempt: str) -> Staged | None:
        """Return what became of the attempt's files: an error of fetching, or what was published; None when neither."""

    def finish(self, attempt: str, *, succeeded: bool, hard: bool) -> Staged | None:
        """Have outputs published, or the last checkpoint kept; None until that is done."""

    def launched(self) -> set[str]:
        """Return the attempts that have files here."""

    def old(self, age_s: float) -> set[str]:
        """Return those whose files have not changed for so many seconds."""

    def clear(self, attempt: str) -> None:
        """Remove an attempt's files."""

    def log(self, attempt: str) -> Path:
        """Return where an attempt's log is kept once its container is gone."""


def staged(read: Callable[[str], Mapping[str, Any] | None]) -> Staged | None:
    """Return what became of an attempt's files, by what reads its mate's: of what was never fetched nothing is published."""
    fetched = read("fetched.json")
    found = fetched if fetched is not None and fetched.get("error") else read("published.json")
    return None if found is None else Staged.from_mapping(found)
