"""The mate: one small process per attempt in a container, that stages beside it.

    python FOLDER/agents beside CONTROL [LOCK]

A container has nothing of ours inside and perhaps no way to the store, so what the keeper
does for a local job the mate does from outside: it fetches inputs, code and checkpoint into
``CONTROL/dla`` and says so in ``fetched.json``; saves checkpoints and watches the control
group while the container runs; and when ``ended.json`` says that the job succeeded it
publishes the outputs. ``published.json`` is its last word. Everything is in those files: a
mate that was killed is started again by the same command and goes on where it was. SIGHUP
makes it look at once; SIGTERM ends it without a word.

The job can write all of ``CONTROL/dla`` and may be less than the mate is, so nothing there
is followed that leads out of it.
"""

from __future__ import annotations

import functools
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from . import daemon, trees
from .checkpoints import CheckpointSaver
from .disk import DiskWatch
from .ending import refuse_empty
from .gpus import GpuUsage, shares_a_gpu
from .protocol import ControlFolder, JobError, JobFile, read_json, write_json
from .usage import Groups, Usage, container_groups
from .wake import Wake

_POLL_S = 0.2
#: A job that has run for a while runs on: hundreds of mates on one host look at it more seldom. Its end wakes them.
_YOUNG_S = 10.0
_CALM_POLL_S = 1.0
_MESSAGE = 2_000

#: Where the container sees the inside folder.
INSIDE = "/dla"


def main(arguments: Sequence[str]) -> int:
    """Stage for an attempt; return the exit status of the starting process."""
    return daemon.start(arguments, "mate.log", _stage)


def _stage(path: Path, handed: Mapping[str, Any]) -> None:
    control = ControlFolder(path)
    if control.published.exists():
        return
    wake = Wake()
    write_json(control.mate, daemon.identity())
    job, error = tried(lambda: JobFile.read(control.job))
    if error is None:
        Mate(job, control, handed, wake).stage()
        return
    write_json(control.fetched, {"error": error})
    write_json(control.published, {"outputs": {}, "peaks": {}, "error": error}, durable=True)


class Mate:
    """Stages for one attempt, from its inputs to its ``published.json``.

    Parameters
    ----------
    job : `JobFile`
    control : `ControlFolder`
    handed : mapping
        ``{"store": the store's options, "mounted": inputs that the container sees straight
        from the store, "owner": [uid, gid] of the job, "publishes": whether anything goes to the
        store, "watches_disk": whether a job that takes more disk than it was granted is stopped}``.
    wake : `Wake`
    staging : callable, optional
        Opens another way to the store than ``staging``'s.
    groups : callable, optional
        Finds the container's control groups otherwise than by its id on this host, as `Usage` has it.
    """

    def __init__(
        self, job: JobFile, control: ControlFolder, handed: Mapping[str, Any], wake: Wake, *,
        staging: Optional[Callable[[], Any]] = None, groups: Optional[Callable[[], Optional[Groups]]] = None,
    ) -> None:  # fmt: skip
        self._job = job
        self._control = control
        self._folder = control.inside
        self._handed = handed
        self._publishes = bool(handed.get("publishes", True))
        self._wake = wake
        self._open = staging
        self._usage = Usage(groups or self._groups)
        granted = job.amounts.get("disk") if handed.get("watches_disk") else None
        self._disk = DiskWatch(self._folder.path, granted, INSIDE, without=[f"in/{name}" for name in job.inputs])
        self._gpus = GpuUsage(job.gpu_ids, self._usage.members if shares_a_gpu(job.gpu_ids, job.amounts) else None)

    def stage(self) -> None:
        """Do all that is left to do."""
        saver = self.fetched()
        ended = self._watched(saver)
        if ended is None:
            return
        outputs, error = self._published() if ended.get("succeeded") else ({}, None)
        if self._wake.terminated:
            return
        done = bool(ended.get("succeeded")) and error is None
        if saver is not None and not done:
            saver.finish(hard=bool(ended.get("hard")))
        peaks = {**self._usage.peaks, **self._gpus.peaks}
        write_json(self._control.published, {"outputs": outputs, "peaks": peaks, "error": error}, durable=True)
        self._tidy(done=done)

    @functools.cached_property
    def _staging(self) -> Any:
        """The way to the store, opened when it is first needed: what it imports takes long."""
        if self._open is not None:
            return self._open()
        from .staging import Staging  # noqa: PLC0415

        mounted = self._handed.get("mounted") or ()
        return Staging(self._job, self._folder, self._handed.get("store") or {}, mounted=mounted, publishes=self._publishes)

    def _groups(self) -> Optional[Groups]:
        """Return the container's control groups; None before there is a container."""
        container = (read_json(self._control.container) or {}).get("id")
        return container_groups(container) if container else None

    def _stop(self) -> Optional[str]:
        """Return why a stop is wanted, None when it is not."""
        wanted = read_json(self._control.stop)
        return None if wanted is None else str(wanted.get("reason", "stopped"))

    def _is_unwanted(self) -> bool:
        return self._wake.terminated or self._control.stop.exists()

    # --- before ---

    def fetched(self) -> Optional[CheckpointSaver]:
        """Have everything in place, and say so; return what saves checkpoints, None when there will be none."""
        said = read_json(self._control.fetched)
        if said is not None:
            return None if "error" in said else self._saver(resumed=True)
        _, error = tried(lambda: daemon.beside(self._fetch, lambda: self._is_unwanted() or self._control.ended.exists()))
        if self._wake.terminated or self._control.ended.exists():
            return None
        reason = self._stop()
        if reason is not None:
            error = [reason, f"{reason} before it started"]
        saver = self._saver() if error is None else None
        write_json(self._control.fetched, {} if error is None else {"error": error})
        return saver

    def _saver(self, *, resumed: bool = False) -> CheckpointSaver:
        def save(path: Path) -> None:
            self._staging.save_checkpoint(path)  # opens the store only now: a broken one must not end us

        return CheckpointSaver(self._folder, save, apart=self._control.taken, resumed=resumed)

    def _fetch(self) -> None:
        folder = self._folder
        folder.path.mkdir(exist_ok=True)
        self._staging.fetch(restore=self._job.restores)
        out = folder.path / "out"
        for path in (folder.path / "in", out, folder.code, folder.checkpoint, folder.scratch):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        for name in self._job.outputs:
            folder.output(name).mkdir(exist_ok=True)
        owner = self._handed.get("owner")
        if owner and os.geteuid() == 0:
            os.chown(str(folder.path), *owner)
            for path in (out, folder.code, folder.checkpoint, folder.scratch):
                trees.give(path, (owner[0], owner[1]))

    # --- meanwhile ---

    def _watched(self, saver: Optional[CheckpointSaver]) -> Optional[Dict[str, Any]]:
        """Wait for the container's end; None when we are to end first, or nobody wants this attempt any more."""
        began = time.monotonic()
        while not self._wake.terminated and self._control.job.exists():  # the folder may be there again, of another
            ended = read_json(self._control.ended)
            if ended is not None:
                return ended
            if saver is not None:
                saver.look()
            self._usage.look()
            self._gpus.look()
            self._refuse_more(self._disk.look())
            self._wake.wait(_POLL_S if time.monotonic() - began < _YOUNG_S else _CALM_POLL_S)
        return None

    def _refuse_more(self, told: str) -> None:
        """Have a job ended that has taken more than it was granted: at once, since it goes on taking."""
        if told:
            at = time.clock_gettime(time.CLOCK_BOOTTIME)
            write_json(self._control.stop, {"reason": "user_error", "at": at, "why": told, "grace_s": 0.0}, once=True)

    # --- after ---

    def _published(self) -> Tuple[Dict[str, Any], Optional[List[str]]]:
        """Publish the outputs; return them, and what went wrong."""
        if not self._job.published:
            return {}, None
        outputs, error = tried(lambda: daemon.beside(self._publish, self._is_unwanted))
        if outputs is None and error is None:
            reason = self._stop() or "stopped"
            error = [reason, f"{reason} while its outputs were published"]
        return outputs or {}, error

    def _publish(self) -> Dict[str, Any]:
        for name in self._job.published:
            path, shown = self._folder.output(name), f"{INSIDE}/out/{name}"
            if path.parent.is_symlink() or path.is_symlink():
                raise JobError(f"output {name!r} was replaced by a symbolic link; write files into the folder {shown} itself")
            self._staging.settle(name)
            refuse_empty(name, path, shown)
            trees.relink(path, shown)
        published: Dict[str, Any] = self._staging.publish()
        return published

    def _tidy(self, *, done: bool) -> None:
        """Remove what nobody needs any more: after a success all but the lines and the JSON files."""
        if not self._publishes:
            return
        for name in ("in", "tmp", ".arriving", *(("out", "code", "checkpoint", "checkpoints") if done else ())):
            trees.remove(self._folder.path / name)
        trees.remove(self._control.taken)


def tried(call: Callable[[], Any]) -> Tuple[Any, Optional[List[str]]]:
    """Call; return what came of it, and reason and message when it failed."""
    try:
        return call(), None
    except JobError as error:
        return None, [error.reason, " ".join(str(error).split())[:_MESSAGE]]
    except Exception as error:  # noqa: BLE001 - the files must say it: nobody reads a mate's traceback
        traceback.print_exception(type(error), error, error.__traceback__)
        return None, ["lost", f"the mate failed: {type(error).__name__}: {error}"[:_MESSAGE]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
