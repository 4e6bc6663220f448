"""Runs that were stopped before their end: beside a kept run's folder lies its state, until the run is complete."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from labkit.models.truncation import warn
from labkit.storage import files, records
from labkit.training.checkpoints import Checkpoints
from labkit.training.loop import Trainer

UNFINISHED = "-unfinished"  # ends the name of the folder
LARGE = 200e6  # bytes: a larger state is written only if ``checkpoints`` asks for it


def checkpoints(kept: Path, identity: dict[str, Any], trainer: Trainer) -> Checkpoints | None:
    """Return where a run saves its state in case it is stopped; None where that would be large or of no use.

    Args:
        kept: the folder that the complete run will have.
        identity: what the run is made of.
        trainer: the run before its first step; it gets the state that is there.
    """
    config = trainer.config
    size = sum(p.nbytes for p in trainer.parameters)
    state = 3 * size  # AdamW has two numbers for each weight
    free = shutil.disk_usage(files.nearest_existing(kept)).free
    needless = config.optimizer != "adamw" or config.steps <= config.checkpoint_every
    if needless or state > LARGE or 2 * state + size > free:  # a new state is written before the old one goes
        return None
    saved = Checkpoints(_folder(kept), identity)
    trainer.prepare()
    try:
        saved.load(trainer.named, trainer.adamw)
    except records.DamagedError as problem:
        warn(f"{problem.cause} The run begins anew.", UserWarning)
        saved.clear()
    return saved


def remove(kept: Path) -> None:
    """Remove the state of a run; whatever else is in its folder stays."""
    Checkpoints(_folder(kept), {}).clear()
    with suppress(OSError):
        _folder(kept).rmdir()


def _folder(kept: Path) -> Path:
    return kept.with_name(kept.name.removesuffix(UNFINISHED) + UNFINISHED)
