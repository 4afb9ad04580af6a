"""Real faults: killed writers, killed servers, full disks, folders that cannot be written in."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.ledger import demand, first_come, node
from fixtures_postgres import PostgresServer

from airflow_dla.errors import LedgerError, LedgerUnavailable
from airflow_dla.ledger import SqlLedger, connect

_WRITER = """
import sys, time
from sqlalchemy import text
from airflow_dla.ledger import connect
from airflow_dla.ledger.nodes import mark_due

def hang(tx):
    mark_due(tx, "half")
    tx.connection.execute(text("INSERT INTO dla_history (at, kind, subject, data) VALUES (0, 'half', 'written', '{}')"))
    print("writing", flush=True)
    time.sleep(60)

connect(sys.argv[1])._db.exclusive(hang)
"""


def writer(url: str) -> subprocess.Popen[bytes]:
    """Start a process and return when it is in the middle of a write."""
    environment = {**os.environ, "PYTHONPATH": "."}
    child = subprocess.Popen([sys.executable, "-c", _WRITER, url], stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == b"writing\n"
    return child


def test_writer_killed_in_mid_transaction(ledger_url: str) -> None:
    """Nothing half-written is seen, and the next writer needs to wait for nobody."""
    ledger = connect(ledger_url, wait_s=20)
    child = writer(ledger_url)
    assert ledger.history(kind="half") == ()
    child.kill()
    child.wait()
    assert child.stdout is not None
    child.stdout.close()
    ledger.register_node(node())
    ledger.request(demand("x"))
    assert ledger.round(first_come, holder="h", lease_s=60).granted == ("x",)
    assert ledger.history(kind="half") == ()
    ledger.close()


@pytest.mark.postgres
def test_server_killed(postgres_server: PostgresServer, postgres_url: str) -> None:
    """A crashed server is unavailable, also in mid-transaction, and found again after its restart."""
    ledger = connect(postgres_url)
    ledger.register_node(node())
    before = ledger.history()

    def crash(_snapshot: object) -> None:
        postgres_server.stop(signal.SIGQUIT)

    ledger.request(demand("x"))
    try:
        with pytest.raises(LedgerUnavailable, match="postgresql://postgres@/dla_"):
            ledger.round(lambda snapshot: crash(snapshot) or first_come(snapshot), holder="h", lease_s=60)
        with pytest.raises(LedgerUnavailable, match="try again"):
            ledger.now()
    finally:
        postgres_server.start()
    assert ledger.history() == before
    assert ledger.round(first_come, holder="h", lease_s=60).granted == ("x",)
    ledger.close()


def test_folder_below_a_file(tmp_path: Path) -> None:
    """A path that cannot be a folder is refused with its name and the way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerUnavailable, match=r"file/dla cannot be made or written in: Not a directory"):
        connect(f"sqlite:///{tmp_path}/file/dla/ledger.db").upgrade()


def test_folder_that_takes_no_files() -> None:
    """Where nothing can be created, not even by root, the upgrade says so."""
    with pytest.raises(LedgerUnavailable, match="cannot be made or written in"):
        connect("sqlite:////proc/dla/ledger.db").upgrade()


@pytest.fixture
def read_only_copy(sqlite_url: str, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a ledger on a file system mounted read-only; skipped without the right to mount."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    shutil.copy(sqlite_url.removeprefix("sqlite:///"), tmp_path / "source.db")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system here: {mounted.stderr.decode().strip()}")
    shutil.copy(tmp_path / "source.db", folder / "ledger.db")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    yield f"sqlite:///{folder}/ledger.db"
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_read_only_folder(read_only_copy: str) -> None:
    """What cannot be written says so with the folder's name."""
    ledger = connect(read_only_copy)
    with pytest.raises(LedgerUnavailable, match=r"(read-only|cannot be opened).*read-only"):
        ledger.record("a", "b", {})
    ledger.close()


def test_file_that_is_no_database(tmp_path: Path) -> None:
    """Another file, or a damaged one, is not taken for a ledger, and stays as it is."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is a text, and quite a long one at that\n" * 100)
    ledger = connect(f"sqlite:///{path}")
    for operation in (ledger.now, ledger.upgrade, ledger.schema):
        with pytest.raises(LedgerUnavailable, match=r"no SQLite database.*move it away"):
            operation()
    assert path.read_bytes().startswith(b"this is a text")


def test_damaged_file(sqlite_url: str, tmp_path: Path) -> None:
    """A file whose pages were overwritten is said to be damaged."""
    path = tmp_path / "ledger.db"
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"damaged|lacks a table"):
        connect(sqlite_url).nodes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB; skipped without the right to mount."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill_up(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(2048):
            file.write(b"0" * 1024)
            file.flush()


def _write_much(ledger: SqlLedger) -> None:
    for _ in range(200):
        ledger.record("big", "x", {"text": "y" * 10_000})


def test_full_disk(small_disk: Path) -> None:
    """A write that finds no room fails as a whole and says so; with room again it succeeds."""
    ledger = connect(f"sqlite:///{small_disk}/ledger.db")
    ledger.upgrade()
    ledger.register_node(node())
    before = ledger.history()
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        _fill_up(filler)
    with pytest.raises(LedgerUnavailable, match="full") as caught:
        _write_much(ledger)
    assert str(small_disk) in str(caught.value)
    filler.unlink()
    kept = len(ledger.history(limit=1000)) - len(before)
    ledger.record("small", "x", {})
    assert len(ledger.history(limit=1000)) == len(before) + kept + 1
    ledger.close()


def test_no_room_for_a_ledger(small_disk: Path) -> None:
    """An upgrade without room leaves no half-made schema."""
    (small_disk / "filler").write_bytes(b"0" * (1024 * 1024 - 16 * 1024))
    ledger = connect(f"sqlite:///{small_disk}/ledger.db")
    with pytest.raises(LedgerUnavailable, match="full"):
        ledger.upgrade()
    (small_disk / "filler").unlink()
    assert ledger.schema()[0] is None
    ledger.upgrade()
    assert ledger.identity()
    ledger.close()


def test_waiting_for_a_writer_that_stopped(sqlite_url: str) -> None:
    """A stopped writer makes the others wait, then say so; when it is gone they go on."""
    child = writer(sqlite_url)
    child.send_signal(signal.SIGSTOP)
    ledger = connect(sqlite_url, wait_s=0.2)
    began = time.monotonic()
    with pytest.raises(LedgerUnavailable, match="stopped process"):
        ledger.record("a", "b", {})
    assert time.monotonic() - began < 10
    child.kill()
    child.wait()
    assert child.stdout is not None
    child.stdout.close()
    ledger.record("a", "b", {})
    ledger.close()
