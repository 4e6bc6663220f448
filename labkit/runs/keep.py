"""Kept runs: a run that was trained before is given back, once its first step, trained again, has come out the same."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from labkit.errors import LabkitError
from labkit.methods import Method
from labkit.models.model import Model
from labkit.models.truncation import warn
from labkit.process import own_random_numbers
from labkit.runs.load import load_run
from labkit.runs.places import new_place
from labkit.runs.run import FILES, KEYS, Run
from labkit.storage import cache, files, folders, ownership, records
from labkit.training.checkpoints import Checkpoints
from labkit.training.loop import Trainer
from labkit.training.processes import count_processes

PROVEN = ("loss", "grad_norm")  # what the first step must show again
# By how much it may differ, relatively: other threads and other processors add in another order, and round otherwise.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.02, torch.float16: 0.02}


UNFINISHED = "-unfinished"  # ends the name of a folder with the checkpoint of a run that was stopped
LARGE = 200e6  # bytes of a checkpoint that is written without being asked for


def require_keepable(method: Method, inplace: bool) -> None:
    """Raise a ``LabkitError`` where a run cannot be kept, or given back."""
    if inplace:
        raise LabkitError(
            "A kept run has a model of its own, and inplace=True asks for the run to change the model it starts from.",
            "Leave out keep or inplace.",
        )
    if type(method).__module__.split(".")[0] != "labkit":
        raise LabkitError(
            f"keep= cannot tell whether the code of {method.name}, which is not part of labkit, has changed.",
            "Leave keep out, and use run.save and lk.load_run.",
        )
    if count_processes() > 1:
        raise LabkitError("A run of several processes cannot be kept.", "Leave keep out, and use run.save.")


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
            _prove(record["history"][0], begin(), TOLERANCE[model.precision])
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
        size = 3 * sum(p.nbytes for p in trainer.parameters)  # AdamW has two numbers for each weight
        if config.optimizer != "adamw" or config.steps <= config.checkpoint_every or size > LARGE:
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
            with folders.new_folder(self.folder, replace=True, check=require_ours) as new:
                run.write_weights(new)
                sums = {path.name: files.sha256(path) for path in sorted(new.iterdir())}
                records.write_record(new, "run", run.content() | {"identity": self.identity, "sha256": sums})
        except LabkitError as problem:  # the run itself must not be lost
            warn(f"The run is not kept. {problem}", UserWarning)
            return 0
        Checkpoints(self.unfinished, self.identity).clear()
        with suppress(OSError):
            self.unfinished.rmdir()
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def warn_if_full(self, model: Model) -> None:
        """Warn before the training if the disk has no room for what ``model`` trains."""
        needed = sum(p.nbytes for p in model.trainable().values())
        free = shutil.disk_usage(files.nearest_existing(self.folder)).free
        if needed > free:
            sizes = f"it takes {needed / 1e6:.0f} MB, and {self.folder} has {free / 1e6:.0f} MB left"
            warn(f"There may be no room to keep this run: {sizes}. Free some space.", UserWarning)

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


def _prove(first: dict[str, Any], trainer: Trainer, tolerance: float) -> None:
    """Train the first step; raise a ``LabkitError`` unless it comes out as in the history, within the tolerance."""
    trainer.optimizer.zero_grad(set_to_none=True)  # gradients that the caller left would be added to ours
    try:
        with own_random_numbers(trainer.model.device):
            again = trainer.step(0)
    finally:
        trainer.close()
    for key in PROVEN:
        if not math.isclose(first[key], again[key], rel_tol=tolerance):
            raise LabkitError(
                f"the {key} of its first step was {first[key]:.6g}, and is {again[key]:.6g} now.",
                "Train it again.",
            )


def require_ours(folder: Path) -> None:
    """Raise a ``LabkitError`` unless labkit wrote all that is in the folder of a kept run, damaged or not."""
    ownership.require_ours(folder, "run", KEYS, FILES, half=True)
