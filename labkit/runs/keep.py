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
from labkit.runs.load import load_run
from labkit.runs.places import new_place
from labkit.runs.proof import prove
from labkit.runs.run import FILES, KEYS, Run
from labkit.storage import cache, files, folders, ownership, records
from labkit.training.checkpoints import Checkpoints
from labkit.training.loop import Trainer

UNFINISHED = "-unfinished"  # ends the name of a folder with the checkpoint of a run that was stopped
LARGE = 200e6  # bytes of a checkpoint that is written without being asked for


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

    @property
    def unfinished(self) -> Path:
        """The folder with the checkpoint of a run that was stopped before its end."""
        return self.folder.with_name(self.folder.name + UNFINISHED)

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
        if not self.folder.is_dir():
            folders.recover(self.folder.parent)
        if not os.path.lexists(self.folder):
            return None
        require_ours(self.folder)
        try:
            record = self._read()
            prove(record["history"][0], begin())
            run = load_run(self.folder, model)
        except (LabkitError, OSError, LookupError, TypeError, AttributeError) as problem:
            cause = getattr(problem, "cause", f"{type(problem).__name__}: {problem}.")
            warn(f"The kept run in {self.folder} is not used: {cause} It is trained again.", UserWarning)
            return None
        run.model.module.eval()
        run.kept = True
        return run

    def checkpoints(self, trainer: Trainer) -> Checkpoints | None:
        """Return where a run saves its state, in case it is stopped; None where that would be large or of no use."""
        config = trainer.config
        size = sum(p.nbytes for p in trainer.parameters)
        state = 3 * size  # AdamW has two numbers for each weight
        needless = config.optimizer != "adamw" or config.steps <= config.checkpoint_every
        if (
            needless or state > LARGE or 2 * state + size > self._free()
        ):  # a new checkpoint is written before the old one goes
            return None
        saved = Checkpoints(self.unfinished, self.identity)
        try:
            saved.load(trainer.named, trainer.adamw)
        except records.DamagedError as problem:
            warn(f"{problem.cause} The run begins anew.", UserWarning)
            saved.clear()
        return saved

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
        Checkpoints(self.unfinished, self.identity).clear()
        with suppress(OSError):
            self.unfinished.rmdir()
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def warn_if_full(self, trainer: Trainer) -> None:
        """Warn before a run begins if the disk has no room for it."""
        size, free = sum(p.nbytes for p in trainer.parameters), self._free()
        if size > free:
            sizes = f"it takes {size / 1e6:.0f} MB, and {self.folder} has {free / 1e6:.0f} MB left"
            warn(f"There may be no room to keep this run: {sizes}. Free some space.", UserWarning)

    def _free(self) -> int:
        return shutil.disk_usage(files.nearest_existing(self.folder)).free

    def _read(self) -> dict[str, Any]:
        """Return the record, once all files have been compared with it."""
        path = self.folder / records.FILE
        record = records.read_json(path, "run", (*KEYS, "identity", "sha256"))
        if record["identity"] != self.identity or not record["history"]:
            raise records.damaged(path, "it is of another run")
        for name, digest in record["sha256"].items():
            file = self.folder / name
            if not file.is_file() or files.sha256(file) != digest:
                raise records.damaged(file, "it is not as it was written")
        return record


def require_ours(folder: Path) -> None:
    """Raise a ``LabkitError`` unless labkit wrote all that is in the folder of a kept run, damaged or not."""
    ownership.require_ours(folder, "run", KEYS, FILES, half=True)
