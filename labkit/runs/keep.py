"""Kept runs: a run that was trained before is given back, once its first step, trained again, has come out the same."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError
from labkit.models.model import Model
from labkit.models.truncation import warn
from labkit.runs import unfinished
from labkit.runs.load import load_run
from labkit.runs.places import new_place
from labkit.runs.proof import prove
from labkit.runs.run import FILES, KEYS, Run
from labkit.runs.same import MEASURES
from labkit.storage import cache, files, folders, ownership, records
from labkit.training.checkpoints import Checkpoints
from labkit.training.loop import Trainer

ADDED = ("seconds", "skipped")  # what a step's record may have beside what the proof's has, without callbacks


class Kept:
    """The place of one run among those that are kept under a name.

    Args:
        name: a plain name means the folder of that name under LABKIT_HOME/kept; a path is taken as it is.
        identity: what the run is made of, as ``identity_of`` returns it. Each has a folder of its own.
    """

    def __init__(self, name: str | Path, identity: dict[str, Any]):
        self.identity = identity
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.folder = new_place(name, "kept") / digest[:8]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one process at a time make this run: the next one finds it made."""
        name = hashlib.sha256(os.fsencode(self.folder.absolute())).hexdigest()[:16]
        with cache.locked(f"kept-{name}", f"Another process is training {self.folder}; this one waits for it."):
            yield

    def find(self, model: Model, begin: Callable[[], Trainer]) -> Run | None:
        """Return the kept run, over the weights of ``model``; None if there is none that can be trusted.

        A warning says why a kept run isn't used.

        Args:
            model: what the run started from.
            begin: returns a trainer of the same run before its first step.

        Raises:
            LabkitError: there is something in the folder that labkit did not write.
        """
        folder = self._find()
        if folder is None:
            return None
        try:
            record = self._read(folder)
            columns = {*prove(record["history"], begin()), *ADDED}
            run = load_run(folder, model)
            if folder != self.folder:
                run.history = [{key: row[key] for key in row if key in columns} for row in run.history]
        except (LabkitError, OSError, LookupError, TypeError, AttributeError) as problem:
            cause = getattr(problem, "cause", f"{type(problem).__name__}: {problem}.")
            warn(f"The kept run in {folder} is not used: {cause} It is trained again.", UserWarning)
            return None
        run.model.module.eval()
        run.kept = True
        return run

    def keep(self, run: Run) -> int:
        """Write a run, in place of what is there, and return its bytes; where that fails, warn and return 0."""
        if len(run.history) < run.config.steps:
            warn(f"The run ended after {len(run.history)} of {run.config.steps} steps: it is not kept.", UserWarning)
            return 0
        try:
            run.require_whole()
            json.dumps(run.history)  # callbacks may have added what JSON would change or cannot hold
            with folders.new_folder(self.folder, replace=True, check=require_ours) as new:
                run.write_weights(new)
                sums = {path.name: files.sha256(path) for path in sorted(new.iterdir())}
                records.write_record(new, "run", run.content() | {"identity": self.identity, "sha256": sums})
        except (LabkitError, OSError, TypeError, ValueError) as problem:  # the run itself must not be lost
            warn(f"The run is not kept. {problem}", UserWarning)
            return 0
        unfinished.remove(self.folder)
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def checkpoints(self, trainer: Trainer) -> Checkpoints | None:
        """Return where a run saves its state in case it is stopped, if it should."""
        return unfinished.checkpoints(self.folder, self.identity, trainer)

    def warn_if_full(self, trainer: Trainer) -> None:
        """Warn before a run begins if the disk has no room for it."""
        size = sum(p.nbytes for p in trainer.parameters)
        free = shutil.disk_usage(files.nearest_existing(self.folder)).free
        if size > free:
            sizes = f"it takes {size / 1e6:.0f} MB, and {self.folder} has {free / 1e6:.0f} MB left"
            warn(f"There may be no room to keep this run: {sizes}. Free some space.", UserWarning)

    def _find(self) -> Path | None:
        """Return the folder of the run or, where no callbacks are asked for, of the same with measurements."""
        if not self.folder.is_dir():
            folders.recover(self.folder.parent)
        if os.path.lexists(self.folder):
            require_ours(self.folder)
            return self.folder
        others = self.folder.parent.glob("*/" + records.FILE) if not self.identity["callbacks"] else ()
        for path in sorted(others):
            with suppress(LabkitError, TypeError, LookupError):  # damaged, or no run at all
                theirs = records.read_json(path, "run", ("identity",))["identity"]
                if self._is_same(theirs) and all(each[0] == MEASURES for each in theirs["callbacks"]):
                    return path.parent
        return None

    def _is_same(self, identity: dict[str, Any]) -> bool:
        return identity | {"callbacks": self.identity["callbacks"]} == self.identity

    def _read(self, folder: Path) -> dict[str, Any]:
        """Return the record, once all files have been compared with it."""
        path = folder / records.FILE
        record = records.read_json(path, "run", (*KEYS, "identity", "sha256"))
        if not self._is_same(record["identity"]) or not record["history"]:
            raise records.damaged(path, "it is of another run")
        for name, digest in record["sha256"].items():
            file = folder / name
            if not file.is_file() or files.sha256(file) != digest:
                raise records.damaged(file, "it is not as it was written")
        return record


def require_ours(folder: Path) -> None:
    """Raise a ``LabkitError`` unless labkit wrote all that is in the folder of a kept run, damaged or not."""
    ownership.require_ours(folder, "run", KEYS, FILES, half=True)
