"""How commands speak and end."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable

import pytest

from airflow_dla.cli.answer import Answer, listing, size, table
from airflow_dla.cli.running import command
from airflow_dla.errors import NotFound

Capture = pytest.CaptureFixture[str]


def status_of(run: Callable[[Namespace], None], *, as_json: bool = True) -> int:
    """Run a command and return its exit status."""
    try:
        run(Namespace(json=as_json))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def raising(error: BaseException) -> Callable[[Namespace], None]:
    """Return a command that fails."""

    def fail(_: Namespace) -> Answer:
        raise error

    return command(fail)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")


def test_only_the_answer_is_on_standard_output(capfd: Capture) -> None:
    """Whatever a library, its loggers or a child prints, standard output holds one JSON document."""
    handler = logging.StreamHandler(sys.stdout)
    logger = logging.getLogger("noisy")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def noisy(_: Namespace) -> Answer:
        print("printed")  # noqa: T201
        os.write(1, b"written\n")
        subprocess.run(["echo", "said by a child"], check=True)
        return Answer({"a": [1]}, "text")

    try:
        assert status_of(command(noisy)) == 0
    finally:
        logger.removeHandler(handler)
    printed = capfd.readouterr()
    assert json.loads(printed.out) == {"a": [1]}
    assert all(noise in printed.err for noise in ("printed", "written", "said by a child"))


def test_standard_output_is_given_back(capfd: Capture) -> None:
    """After a command, whether it ended well or not, standard output is what it was."""
    status_of(command(lambda _: Answer(None, "text")), as_json=False)
    status_of(raising(NotFound("gone")))
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "text\nafter\n"


def test_an_error_is_one_message_and_exit_status_1(capfd: Capture) -> None:
    """Errors of ours and of the system are said once, without a traceback."""
    assert status_of(raising(NotFound("there is no x"))) == 1
    assert status_of(raising(FileNotFoundError(2, "No such file or directory", "/nowhere"))) == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == "airflow dla: there is no x\nairflow dla: /nowhere: No such file or directory\n"


def test_a_defect_is_not_hidden() -> None:
    """What we did not foresee keeps its traceback."""
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())(Namespace(json=True))


def test_interrupts_and_closed_pipes_need_no_message(capfd: Capture) -> None:
    """Ctrl-C ends with a shell's status, a reader that has gone with 1, both silently."""
    assert status_of(raising(KeyboardInterrupt())) == 130
    assert status_of(raising(BrokenPipeError())) == 1
    assert capfd.readouterr().err == ""


def test_an_answer_may_mean_failure(capfd: Capture) -> None:
    """An answer that says no is printed and ends with status 1."""
    assert status_of(command(lambda _: Answer({"ok": False}, "no", ok=False))) == 1
    assert json.loads(capfd.readouterr().out) == {"ok": False}


def test_tables_and_sizes_of_nothing() -> None:
    """A table without rows says so; sizes end at the largest unit."""
    assert table(["A"], [], empty="no job") == "no job"
    assert listing({"a": None}) == ""
    assert [size(0), size(1023), size(1024), size(5 * 1024**5)] == ["0 B", "1023 B", "1.0 KiB", "5120.0 TiB"]
