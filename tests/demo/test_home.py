"""The demo's home: what is made, what is kept."""

from __future__ import annotations

import configparser
import threading
from pathlib import Path

from airflow_dla.demo.home import DAG_FILES, clean_environment, default_home, locked, prepare_home


def test_environment_is_stripped_of_every_other_airflow() -> None:
    """Nothing that names another installation's settings, connections or database is inherited."""
    hostile = {
        "AIRFLOW_HOME": "/other",
        "AIRFLOW_CONFIG": "/other/airflow.cfg",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW_CONN_DLA_DEFAULT": "dla://",
        "AIRFLOW_VAR_X": "1",
        "_AIRFLOW__AS_LIBRARY": "1",
        "__AIRFLOW_SUPERVISOR_FD": "3",
        "PATH": "/bin",
    }
    assert clean_environment(hostile, Path("/demo")) == {"PATH": "/bin", "AIRFLOW_HOME": "/demo", "_AIRFLOW_PROCESS_CONTEXT": "server"}


def test_default_home_follows_the_users_data_folder_not_the_inherited_airflow() -> None:
    """XDG_DATA_HOME says where; AIRFLOW_HOME does not."""
    assert default_home({"XDG_DATA_HOME": "/data", "HOME": "/home/ada", "AIRFLOW_HOME": "/other"}) == Path("/data/airflow-dla/demo")


def test_home_has_settings_and_dags(tmp_path: Path) -> None:
    """A new home gets its DAG files and settings of its own, with keys that differ from home to home."""
    one, two = tmp_path / "one", tmp_path / "100%"
    assert prepare_home(one) == prepare_home(two) == []
    assert {path.name for path in (one / "dags").iterdir()} == set(DAG_FILES)
    first, second = (read_config(home) for home in (one, two))
    assert first["core"]["dags_folder"] == f"{one}/dags"
    assert second["database"]["sql_alchemy_conn"] == f"sqlite:///{two}/airflow.db"
    assert first["api_auth"]["jwt_secret"] != second["api_auth"]["jwt_secret"]
    assert (one / "airflow.cfg").stat().st_mode & 0o777 == 0o600


def read_config(home: Path) -> configparser.ConfigParser:
    """Read a home's settings as Airflow does."""
    config = configparser.ConfigParser()
    config.read(home / "airflow.cfg")
    return config


def test_edited_files_are_kept_and_named(tmp_path: Path) -> None:
    """What the owner of a home changed stays, and the demo says so."""
    prepare_home(tmp_path)
    mine = tmp_path / "dags" / "digits_agent.py"
    mine.write_text("# mine\n", encoding="utf-8")
    (tmp_path / "airflow.cfg").write_text("[core]\n", encoding="utf-8")
    notes = prepare_home(tmp_path)
    assert mine.read_text(encoding="utf-8") == "# mine\n"
    assert (tmp_path / "airflow.cfg").read_text(encoding="utf-8") == "[core]\n"
    assert len(notes) == 1
    assert str(mine) in notes[0]


def test_a_home_is_held_by_one_demo_at_a_time(tmp_path: Path) -> None:
    """A second demo in the same home says that it waits, and goes on when the first is done."""
    said, order, waiting = [], [], threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waiting.set()

    def second() -> None:
        with locked(tmp_path, say):
            order.append("second")

    with locked(tmp_path, say):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert str(tmp_path) in said[0]
