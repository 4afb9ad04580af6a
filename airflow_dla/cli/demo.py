"""``airflow dla demo``: the demo as a child process, away from any Airflow that is there already."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from airflow_dla.cli.running import reported
from airflow_dla.errors import InvalidSpec

#: The demo's process group hears of these from us, and only from us.
_FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demo(args: Namespace) -> None:
    """Run the demo, and end as it ends."""
    with reported():
        home = demo_home(args.home, os.environ)
        argv = [sys.executable, "-m", "airflow_dla.demo", "--home", str(home), *(["--json"] if args.json else [])]
        status = run_child(argv, clean_environment(os.environ, home))
    if status:
        sys.exit(status)


def demo_home(given: str | None, environ: Mapping[str, str]) -> Path:
    """Return the demo's Airflow home: never that of an Airflow that is there already.

    Raises
    ------
    InvalidSpec
        If the folder that is named is the home of the present Airflow.
    """
    data = Path(environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    default = (data / "airflow-dla" / "demo").absolute()
    home = Path(given).expanduser().absolute() if given else default
    present = Path(environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    if home != default and home.resolve() == present.resolve():
        raise InvalidSpec(f"--home {home} is the home of the Airflow that is there already; name a folder of the demo's own")
    return home


def clean_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return an environment without anything of another Airflow.

    Examples
    --------
    >>> clean_environment({"PATH": "/bin", "AIRFLOW__CORE__EXECUTOR": "x", "_AIRFLOW_X": "1"}, Path("/demo"))
    {'PATH': '/bin', 'AIRFLOW_HOME': '/demo'}
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW", "__AIRFLOW"))}
    return {**kept, "AIRFLOW_HOME": str(home)}


def run_child(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a child on our standard streams, forward what signals us, and return its exit status as a shell gives it."""
    early: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def forward(number: int, _frame: FrameType | None) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        # A group of its own: a terminal's Ctrl-C reaches it once, through us.
        child = subprocess.Popen(argv, env=dict(environ), process_group=0)  # noqa: S603 - our own module
        for number in early:
            child.send_signal(number)
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status
