"""An Airflow home of the demo's own: its environment, its settings and its DAGs folder."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

#: What goes into the DAGs folder.
DAG_FILES: Final = ("digits.py", "digits_agent.py")

#: Variables that would point an Airflow to another installation's settings, connections or database.
_FOREIGN: Final = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_", "_AIRFLOW", "__AIRFLOW")
_FOREIGN_NAMES: Final = ("AIRFLOW_HOME", "AIRFLOW_CONFIG")

_CONFIG: Final = """\
# Written by `airflow dla demo`; change what you like, it is not written again.
# Every option that is not here has Airflow's default: `airflow config list`.

[core]
dags_folder = {home}/dags
load_examples = False
dags_are_paused_at_creation = False
executor = LocalExecutor
# One process of about 150 MB for each, from the start.
parallelism = 4
fernet_key = {fernet_key}

[database]
sql_alchemy_conn = sqlite:///{home}/airflow.db

[logging]
base_log_folder = {home}/logs

[api]
# Nobody but this machine may connect.
host = 127.0.0.1
secret_key = {secret_key}

[api_auth]
jwt_secret = {jwt_secret}

[usage_data_collection]
enabled = False
"""


def default_home(environ: Mapping[str, str]) -> Path:
    """Return the demo's home when none is given: in the user's data folder, never an inherited ``AIRFLOW_HOME``.

    Examples
    --------
    >>> default_home({"HOME": "/home/ada"}).as_posix()
    '/home/ada/.local/share/airflow-dla/demo'
    """
    data = environ.get("XDG_DATA_HOME") or f"{environ.get('HOME') or Path.home()}/.local/share"
    return Path(data) / "airflow-dla" / "demo"


def clean_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return an environment in which Airflow sees the demo's home and no other installation.

    Examples
    --------
    >>> clean_environment({"PATH": "/bin", "AIRFLOW__CORE__EXECUTOR": "X", "AIRFLOW_CONN_A": "b"}, Path("/demo"))
    {'PATH': '/bin', 'AIRFLOW_HOME': '/demo', '_AIRFLOW_PROCESS_CONTEXT': 'server'}
    """
    kept = {name: value for name, value in environ.items() if name not in _FOREIGN_NAMES and not name.startswith(_FOREIGN)}
    # Airflow looks connections up in its database only where this says so: the demo then
    # runs in the same workspace as the standalone Airflow of its home.
    return {**kept, "AIRFLOW_HOME": str(home), "_AIRFLOW_PROCESS_CONTEXT": "server"}


@contextlib.contextmanager
def locked(home: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a home for one demo at a time; another waits, and says so."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another demo is running in {home}; waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare_home(home: Path) -> list[str]:
    """Make the home's folders, settings and DAG files; return what a person should know.

    What is there already stays as it is: a file that differs was edited, and is kept.

    Raises
    ------
    OSError
        If the home cannot be written.
    """
    for folder in ("dags", "logs"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    _write_config(home)
    notes = [_copy_dag_file(name, home / "dags") for name in DAG_FILES]
    return [note for note in notes if note]


def _write_config(home: Path) -> None:
    config = home / "airflow.cfg"
    if config.exists():
        return
    keys = {
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "secret_key": secrets.token_urlsafe(24),
        "jwt_secret": secrets.token_urlsafe(24),
    }
    written = config.with_name(".airflow.cfg.new")
    with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - the mode from the start
        # A percent sign begins an interpolation in Airflow's settings.
        file.write(_CONFIG.format(home=str(home).replace("%", "%%"), **keys))
    written.replace(config)


def _copy_dag_file(name: str, folder: Path) -> str:
    ours, theirs = Path(__file__).with_name(name).read_bytes(), folder / name
    if not theirs.exists():
        theirs.write_bytes(ours)
    elif theirs.read_bytes() != ours:
        return f"{theirs} was edited and is used as it is; delete it to get the original back"
    return ""
