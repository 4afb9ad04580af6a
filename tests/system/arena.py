"""An Airflow of its own whose jobs run in containers of one place, where somebody kills what runs them."""

from __future__ import annotations

import random
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from system.airflow_server import AirflowServer
from system.jobs import JobRun

from airflow_dla.ledger import connect

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Arena(ABC):
    """An Airflow, its workspaces, and what their place knows of their jobs.

    Parameters
    ----------
    folder : Path
        Of this Airflow alone.
    dags : str
        Folder beside this file with its DAGs; their work is `counter.train`.
    ledgers : mapping of str to str
        The URL of each workspace's, by the id of its connection.
    env : mapping of str to str
        Airflow's environment, connections included.
    """

    def __init__(self, folder: Path, dags: str, ledgers: Mapping[str, str], env: Mapping[str, str]) -> None:
        self.folder = folder
        self.ledgers = dict(ledgers)
        self.identities = {name: _identity(url) for name, url in self.ledgers.items()}
        self.dags = folder / "dags"
        shutil.copytree(HERE / dags, self.dags, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HERE / "dags" / "counter.py", self.dags)
        self.server = AirflowServer(folder / "airflow", self.dags, env={"PYTHONPATH": str(ROOT), **env})

    @property
    @abstractmethod
    def strikes(self) -> Mapping[str, Callable[[random.Random], bool]]:
        """What of the place may be struck; each tells whether there was anything."""

    @abstractmethod
    def begin(self, name: str, *, deferred: bool, epochs: int) -> JobRun:
        """Begin a run of a job that counts."""

    @abstractmethod
    def made(self) -> Counter[str]:
        """Return how many containers or pods each attempt was given."""

    @abstractmethod
    def running(self) -> Sequence[str]:
        """Return the names of what runs, or may run yet."""

    @abstractmethod
    def clean(self) -> None:
        """Remove what its jobs left at the place."""


A = TypeVar("A", bound=Arena)


@contextmanager
def opened(make: Callable[..., A], *args: Any, **options: Any) -> Iterator[A]:
    """Start an `Arena` in a folder of its own, which it is given as ``folder``; nothing is left of it."""
    with tempfile.TemporaryDirectory(prefix="dla-system-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        made = make(*args, folder=folder, **options)
        try:
            with made.server:
                yield made
        finally:
            made.clean()


def _identity(url: str) -> str:
    ledger = connect(url)
    try:
        ledger.upgrade()
        return ledger.identity()
    finally:
        ledger.close()
