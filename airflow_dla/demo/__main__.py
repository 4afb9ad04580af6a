"""``python -m airflow_dla.demo``: the digits pipeline from nothing to a report, in a home of its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from airflow_dla.demo.home import clean_environment, default_home, locked, prepare_home
from airflow_dla.demo.report import Outcome, as_mapping, as_text, failures
from airflow_dla.demo.steps import Shown
from airflow_dla.demo.streams import Streams
from airflow_dla.errors import DlaError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 only when every step succeeded."""
    options = _parser().parse_args(argv)
    home = (options.home or default_home(os.environ)).expanduser().absolute()
    environment = clean_environment(os.environ, home)
    os.environ.clear()
    os.environ.update(environment)
    say = _sayer(sys.stderr)
    try:
        with locked(home, say):
            return _run(home, as_json=options.json)
    except OSError as error:
        say(f"the demo's home {home} cannot be used: {error}; choose another with --home")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_dla.demo", description="Run the digits pipeline in an Airflow home of its own."
    )
    parser.add_argument("--home", type=Path, help="folder of that home; in your data folder by default, never the inherited AIRFLOW_HOME")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the report")
    return parser


def _run(home: Path, *, as_json: bool) -> int:
    """Set the home up and run the DAG, with every stream but ours out of the way."""
    notes = prepare_home(home)
    log = home / "logs" / "demo.log"
    with Streams(log) as streams:
        say = _sayer(streams.err)
        for note in [*notes, f"running the DAG 'digits' in {home}"]:
            say(note)
        try:
            outcome = _outcome(home, streams.err)
        except DlaError as error:
            say(f"{type(error).__name__}: {error}")
            return 1
        except KeyboardInterrupt:
            say("interrupted; what ran was stopped")
            return 130
        except Exception:  # noqa: BLE001 - whatever it is, a person must see it
            say(f"{traceback.format_exc()}What Airflow said is in {log}")
            return 1
        took = seconds_since_start()
        print(json.dumps(as_mapping(outcome, took)) if as_json else as_text(outcome, took), file=streams.out)
        if as_json:
            streams.err.writelines(f"{line}\n" for line in failures(outcome.steps))
    return 0 if outcome.succeeded else 1


def _outcome(home: Path, err: TextIO) -> Outcome:
    """Run the DAG; Airflow is imported here, when the environment is the home's."""
    from airflow_dla.demo.run import open_pipeline, run_pipeline  # noqa: PLC0415 - reads the environment when it is imported

    shown = Shown(err)
    return run_pipeline(open_pipeline(home), began=shown.began, ended=shown.ended)


def seconds_since_start() -> float:
    """Return how long this process has lived, its interpreter's start included."""
    ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _sayer(err: TextIO) -> Callable[[str], None]:
    return lambda text: print(f"demo: {text}", file=err, flush=True)


if __name__ == "__main__":
    sys.exit(main())
