"""The mate's way to the store from a pod that has none: through whoever follows the job.

The twin of ``staging.Staging``. What it lacks it says on its `Board`; the follower, who has
the store's credentials, enters by the ``door``: it brings inputs as bytes or as signed
addresses of single files, and takes outputs the same way. Nothing here can open the store.
"""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from . import links, offers
from .arrivals import Arrivals, Damaged, Entry, Item, entries_of
from .board import Board
from .offers import Offer
from .protocol import ControlFolder, JobError, JobFile, read_json

_LOOK_S = 0.1
_SAY_S = 1.0
_AT_ONCE = 4
_TRIES = 3

#: What is offered, see `offers.Offer`.
OUTPUTS, CHECKPOINT = "outputs", "checkpoint"


class Relay:
    """Fetches and publishes for one attempt, by the hands of its follower.

    Parameters
    ----------
    job : `JobFile`
    control : `ControlFolder`
    board : `Board`
    """

    def __init__(self, job: JobFile, control: ControlFolder, board: Board) -> None:
        self._job = job
        self._control = control
        self._folder = control.inside
        self._board = board
        self._arrivals = Arrivals(control)
        self._tried = 0
        self._pause_s = _LOOK_S
        self._damaged: List[str] = []

    def fetch(self, *, restore: bool) -> None:
        """Wait until inputs, code and checkpoint are in the job's folder, every byte verified.

        Parameters
        ----------
        restore : bool
            Whether there may be a checkpoint.

        Raises
        ------
        JobError
            Naming what is missing or damaged, or what the follower said.
        """
        try:
            while needs(self._job, restore=restore) and not self._is_fetched():
                time.sleep(self._pause_s)
        finally:
            self._arrivals.forget()
        self._board.say(wants=None, links=None, why=None, progress=None)

    def publish(self) -> Dict[str, Any]:
        """Offer every output; return the references by name."""
        return self._offered(OUTPUTS, {name: self._output(name) for name in self._job.published})

    def settle(self, name: str) -> None:
        """Make an output the folder of what was written."""
        offers.settle(self._folder, name)

    def save_checkpoint(self, folder: Path) -> None:
        """Offer a folder as the job's newest checkpoint, unless it is the one that was restored."""
        if not self._job.leads:
            return
        files = offers.measured(folder)
        restored = (self._arrivals.plan or {"items": {}})["items"].get(CHECKPOINT)
        if restored is None or restored["files"] != files:
            self._offered(CHECKPOINT, {CHECKPOINT: {"kind": CHECKPOINT, "folder": str(folder), "files": files}})

    # --- in ---

    def _is_fetched(self) -> bool:
        failed = read_json(self._control.path / "failed.json")
        if failed is not None:
            raise JobError(failed["error"][1], failed["error"][0])
        plan = self._arrivals.plan
        if plan is None:
            self._board.say(wants="plan")
            return False
        began = time.monotonic()
        left = entries_of(plan, self._arrivals)
        self._pause_s = max(_LOOK_S, 4 * (time.monotonic() - began))  # many files take long to look through
        if left:
            self._go_on(plan, left)
            return False
        for item in plan["items"].values():
            self._arrivals.settle(item)
        # Signed addresses have served; what remains says what was restored.
        self._arrivals.put_plan({name: {**item, "files": [_bare(file) for file in item["files"]]} for name, item in plan["items"].items()})
        return True

    def _go_on(self, plan: Mapping[str, Any], left: List[Tuple[Item, Entry]]) -> None:
        linked = [one for one in left if one[1].get("get")]
        if not linked:
            self._board.say(wants="bytes", progress=self._progress(plan))
        elif plan["number"] != self._tried:
            self._tried = plan["number"]
            self._board.say(wants=None, links=None, why=None)
            self._download(plan, linked)

    def _download(self, plan: Mapping[str, Any], linked: List[Tuple[Item, Entry]]) -> None:
        many = Many(lambda one: self._bring(*one), linked, lambda: self._board.say(progress=self._progress(plan)))
        if isinstance(many.error, (Damaged, links.Missing)):
            self._refuse(many.failed[0], many.error)
        elif many.error is not None:
            self._board.say(wants="plan", links=many.trouble, why=str(many.error))

    def _bring(self, item: Item, entry: Entry) -> None:
        for _ in range(_TRIES - 1):
            with contextlib.suppress(Damaged, links.CutOff):
                self._arrivals.take(item, entry, links.pieces(entry["get"]))
                return
        self._arrivals.take(item, entry, links.pieces(entry["get"]))

    def _refuse(self, item: Item, error: Exception) -> None:
        """Want an older checkpoint instead of a damaged one; nothing stands for an input."""
        if item["target"] != CHECKPOINT:
            raise JobError(
                f"{item['name']}: artifact {item['key']} is damaged: {error}; put the file back from a copy, "
                "or clear the task that made it: publishing the same bytes again repairs it"
            )
        self._damaged.append(item["key"])
        self._board.say(wants="plan", damaged=list(self._damaged))

    def _progress(self, plan: Mapping[str, Any]) -> List[int]:
        return [self._arrivals.arrived, sum(entry["size"] or 0 for item in plan["items"].values() for entry in item["files"])]

    # --- out ---

    def _output(self, name: str) -> Dict[str, Any]:
        folder = self._folder.output(name)
        try:
            return {"kind": offers.kind_of(name), "folder": str(folder), "files": offers.measured(folder)}
        except JobError as error:
            raise JobError(f"output {name!r}: {error}") from error

    def _offered(self, what: str, items: Dict[str, Any]) -> Dict[str, Any]:
        """Offer, send to signed addresses if there are any, and wait for the references."""
        offer = Offer(self._control, what)
        offer.make(items)
        sent = 0
        try:
            self._say(offer, "offered")
            while True:
                answer = offer.news()
                if answer is not None and all("reference" in item for item in answer.values()):
                    return {name: item["reference"] for name, item in answer.items()}
                if answer is not None:
                    _raise_error(answer)
                if answer is not None and sent != offer.number:
                    sent = offer.number
                    self._send(offer, items, answer)
                time.sleep(_LOOK_S)
        finally:
            offer.close()
            self._board.say(**{what: None}, why=None)

    def _send(self, offer: Offer, items: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        self._say(offer, "sending")
        files = [
            (items[name], entry, item["put"][entry["path"]])
            for name, item in answer.items()
            for entry in items[name]["files"]
            if entry["path"] in item.get("put", {})
        ]
        many = Many(lambda one: _upload(*one), files, lambda: None)
        if many.trouble == "expired":
            offer.make(dict(items))
            self._say(offer, "offered")
        else:
            # Whatever could not be sent is asked for as bytes.
            self._board.say(why=None if many.error is None else str(many.error))
            self._say(offer, "sent")

    def _say(self, offer: Offer, phase: str) -> None:
        self._board.say(**{offer.what: [offer.number, phase]})


class Many:
    """Moves many files at once, until one cannot be.

    Parameters
    ----------
    move : callable
        Gets a file.
    files : sequence
    look : callable
        Called now and then.

    Attributes
    ----------
    moved : int
    error : Exception or None
        The first that went wrong; `failed` is its file.
    """

    def __init__(self, move: Callable[[Any], None], files: List[Any], look: Callable[[], None]) -> None:
        self._move = move
        self._lock = threading.Lock()
        self.moved = 0
        self.error: Optional[Exception] = None
        self.failed: Any = None
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            waiting = {pool.submit(self._one, file) for file in files}
            while waiting:
                waiting = _waited(waiting)
                look()
        if isinstance(self.error, (JobError, OSError)):
            raise self.error

    @property
    def trouble(self) -> Optional[str]:
        """What is wrong with the addresses: ``expired`` where some have served, ``refused``, ``unreachable``."""
        if isinstance(self.error, links.Refused):
            return "expired" if self.moved else "refused"
        return None if self.error is None else "unreachable"

    def _one(self, file: Any) -> None:
        if self.error is not None:
            return
        try:
            self._move(file)
        except Exception as error:  # noqa: BLE001 - raised, or said, by who waits
            with self._lock:
                if self.error is None:
                    self.error, self.failed = error, file
        else:
            with self._lock:
                self.moved += 1


def needs(job: JobFile, *, restore: bool) -> bool:
    """Return whether a follower has to say what is to come; ``runtime.kubernetes.freight`` knows the same rule."""
    return bool(job.inputs or job.code is not None or restore)


def _upload(item: Mapping[str, Any], entry: Entry, link: links.Link) -> None:
    links.upload(link, offers.source(Path(item["folder"]), entry["path"]), entry["size"])


def _waited(waiting: set[Future[None]]) -> set[Future[None]]:
    done, left = wait(waiting, timeout=_SAY_S)
    for future in done:
        future.result()
    return left


def _raise_error(answer: Mapping[str, Any]) -> None:
    for item in answer.values():
        if "error" in item:
            raise JobError(item["error"][1], item["error"][0])


def _bare(entry: Entry) -> Entry:
    return {name: value for name, value in entry.items() if name != "get"}
