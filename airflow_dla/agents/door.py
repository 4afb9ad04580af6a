"""The door of a pod: what its follower runs in a helper's container, one verb at a time.

    python CONTROL/agents door CONTROL VERB …

=================== ==========================================================
``state``           print what the helper said last
``put NAME JSON``   write ``stop``, ``end``, ``ended``, ``container``, ``failed``, ``leave`` (once each) or ``grant``
``plan``            read what is to come; print what of it must be brought as bytes
``take NUMBER``     read the bytes of files of that plan
``offer WHAT``      print what is offered
``answer WHAT``     read the answer to an offer
``give WHAT``       read which files of an offer are wanted; print their bytes
=================== ==========================================================

Whatever is read or printed is in `frames`, for a connection may break without a sign. Every
verb may be repeated and may be cut off anywhere. Status 75: somebody else is about it, or
it is about something that has passed; 65: damaged or broken off; 74: there is no room, or
what is wanted is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Sequence, Tuple

from . import frames, offers, processes
from .arrivals import Arrivals, Damaged, Entry, Item, entries_of
from .offers import Offer
from .protocol import ControlFolder, JobError, read_json, write_json

DAMAGED, NO_ROOM, PASSED = 65, 74, 75

_ONCE = ("stop", "end", "ended", "container", "failed", "leave")


def main(arguments: Sequence[str]) -> int:
    """Do one thing; return the exit status."""
    control = ControlFolder(Path(arguments[0]))
    verb, rest = arguments[1], arguments[2:]
    try:
        return VERBS[verb](control, *rest)
    except (frames.Broken, Damaged, ValueError) as error:
        return _said(error, DAMAGED)
    except (JobError, OSError) as error:
        return _said(error, NO_ROOM)


def _said(error: Exception, status: int) -> int:
    sys.stderr.write(f"{error}\n")
    return status


def _state(control: ControlFolder) -> int:
    return _print(read_json(control.path / "state.json") or {})


def _put(control: ControlFolder, name: str, text: str) -> int:
    value = json.loads(text)
    if name == "grant":
        for path in (control.path / "grant.json", control.inside.grant):
            write_json(path, value)
            path.chmod(0o644)
    elif name in _ONCE:
        _write_once(control.path / f"{name}.json", value)
    else:
        raise ValueError(f"nobody reads {name}.json; put {', '.join(_ONCE)} or grant")
    _wake(control)
    return 0


def _write_once(path: Path, value: Any) -> None:
    if not path.exists():
        aside = path.with_name(f".{path.name}.once-{os.getpid()}")
        write_json(aside, value)
        with contextlib.suppress(FileExistsError):
            os.link(str(aside), str(path))
        aside.unlink()


def _wake(control: ControlFolder) -> None:
    """Have the mate look at once; its numbers mean nothing in another container."""
    mate = read_json(control.mate)
    if mate is not None:
        line = processes.stat(mate["pid"])
        if line is not None and line.start_ticks == mate["start_ticks"]:
            with contextlib.suppress(OSError):
                os.kill(mate["pid"], signal.SIGHUP)


def _plan(control: ControlFolder) -> int:
    arrivals = Arrivals(control)
    items: Dict[str, Item] = frames.read_json(0)
    arrivals.put_plan(items)
    plan = arrivals.plan or {"number": 0, "items": {}}
    names = {id(item): name for name, item in plan["items"].items()}
    wanted = [[names[id(item)], entry["path"]] for item, entry in entries_of(plan, arrivals) if not entry.get("get")]
    return _print({"number": plan["number"], "needs": wanted})


def _take(control: ControlFolder, number: str) -> int:
    arrivals = Arrivals(control)
    plan = arrivals.plan
    with arrivals.only() as mine:
        if plan is None or not mine or plan["number"] != int(number):
            return PASSED
        files = {(name, entry["path"]): (item, entry) for name, item in plan["items"].items() for entry in item["files"]}
        try:
            _take_all(arrivals, files)
        except JobError as error:
            _write_once(control.path / "failed.json", {"error": [error.reason, str(error)]})
            raise
    return 0


def _take_all(arrivals: Arrivals, files: Mapping[Tuple[str, str], Tuple[Item, Entry]]) -> None:
    stream = frames.read(0)
    for _, payload in stream:
        name, path = json.loads(payload)
        item, entry = files[name, path]
        arrivals.take(item, entry, _bytes_of(stream, entry))


def _bytes_of(stream: Iterator[Tuple[bytes, bytes]], entry: Entry) -> Iterator[bytes]:
    """Yield the bytes of one file; what comes after them tells size and hash where nobody knew them."""
    for kind, payload in stream:
        if kind != frames.DATA:
            end = json.loads(payload)
            entry.update({word: end[word] for word in ("size", "sha256") if entry.get(word) is None})
            return
        yield payload
    raise frames.Broken("the stream ended inside a file")


def _offer(control: ControlFolder, what: str) -> int:
    offer = Offer(control, what)
    return _print({"number": offer.number, "items": offer.items})


def _answer(control: ControlFolder, what: str) -> int:
    answer = frames.read_json(0)
    return 0 if Offer(control, what).reply(answer["number"], answer["items"]) else PASSED


def _give(control: ControlFolder, what: str) -> int:
    wanted = frames.read_json(0)
    offer, items = Offer(control, what), Offer(control, what).items
    if offer.number != wanted["number"] or wanted["item"] not in items:
        return PASSED
    item, write = items[wanted["item"]], frames.writer(1)
    known = {entry["path"] for entry in item["files"]}
    skip = int(wanted.get("skip", 0))
    for path in wanted["paths"]:
        if path not in known:
            raise ValueError(f"{path!r} is not offered")
        _send(offers.source(Path(item["folder"]), path), skip, write)
        skip = 0
    write(frames.framed(frames.END))
    return 0


def _send(source: Path, skip: int, write: Callable[[bytes], None]) -> None:
    """Print a file from a byte on, then what says that this was all."""
    with source.open("rb", buffering=0) as file:
        file.seek(skip)
        while True:
            piece = file.read(frames.PIECE)
            if not piece:
                break
            write(frames.framed(frames.DATA, piece))
    write(frames.framed_json({}))


def _print(value: Any) -> int:
    frames.writer(1)(frames.framed_json(value) + frames.framed(frames.END))
    return 0


VERBS: Dict[str, Callable[..., int]] = {
    "state": _state, "put": _put, "plan": _plan, "take": _take, "offer": _offer, "answer": _answer, "give": _give,
}  # fmt: skip
