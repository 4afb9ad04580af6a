"""Task logs of a run in this process: `DAG.test` writes none, and the web UI reads files."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Final

#: Loggers that speak of the machinery around a task, which in an Airflow of many processes is elsewhere.
_AROUND: Final = (b'"logger":"airflow.api_fastapi.', b'"logger":"airflow.sdk.definitions.dag"')


class TaskLogs(io.RawIOBase):
    """A stream of log lines that go to the log file of the task that runs, in the form a worker writes.

    Parameters
    ----------
    folder : path
        Airflow's ``[logging] base_log_folder``.
    rest : path
        Gets the lines that belong to no task.
    """

    def __init__(self, folder: Path, rest: Path) -> None:
        super().__init__()
        self._folder = folder
        self._rest = rest
        self._target = rest
        self._lock = threading.Lock()

    def path(self, *, dag: str, run: str, task: str, attempt: int) -> Path:
        """Return where Airflow looks for the log of a task's try."""
        return self._folder / f"dag_id={dag}" / f"run_id={run}" / f"task_id={task}" / f"attempt={attempt}.log"

    def begin(self, path: Path) -> None:
        """Send what comes to a task's log."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._target = path

    def end(self) -> None:
        """Send what comes to the rest."""
        with self._lock:
            self._target = self._rest

    def writable(self) -> bool:
        """Whether it can be written: it can."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Append one line, or several."""
        with self._lock:
            target = self._rest if any(name in data for name in _AROUND) else self._target
            with target.open("ab") as file:
                return file.write(data)
