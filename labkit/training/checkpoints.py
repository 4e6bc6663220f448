"""Checkpoints: everything a run needs to resume as if it had never stopped."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.optim import Optimizer

from labkit.errors import LabkitError
from labkit.storage import folders, ownership, records
from labkit.training.identity import differences
from labkit.training.state import Parameters, find_mismatch, restore, tensors_of

WEIGHTS = "state.safetensors"
KEYS = ("done", "identity", "history", "scaler")


class Checkpoints:
    """A folder of checkpoints of one run.

    The random numbers of a step depend only on the seed and the step, and the order of the examples only
    on the seed, so weights, optimizer states and the step are the whole state of a run.

    Args:
        folder: where the checkpoints are. Anything in it named like a checkpoint (step-000020) must be one; other
            files are left alone.
        identity: what the run is made of (model, method, settings, data), in types that JSON has. A
            checkpoint is loaded only into a run of the same identity.
        old_fingerprint: the model's fingerprint as checkpoints without a format version store it.
    """

    def __init__(self, folder: Path, identity: dict, old_fingerprint: str = ""):
        self.folder, self.old_fingerprint = Path(folder), old_fingerprint
        self.identity = json.loads(json.dumps(identity))

    def save(self, done: int, parameters: Parameters, optimizer: Optimizer, history: list[dict], scaler: dict) -> None:
        """Write the state after ``done`` steps, then remove older checkpoints and half-written ones."""
        final = self.folder / f"step-{done:06d}"
        with folders.new_folder(final, replace=True, check=_require_checkpoint) as folder:
            save_file(tensors_of(parameters, optimizer), folder / WEIGHTS)
            record = {"done": done, "identity": self.identity, "history": history, "scaler": scaler}
            records.write_record(folder, "checkpoint", record)
        # Checkpoints of later steps are damaged: the run began at an older one.
        self._remove([path for path in self._found() if path != final])

    def load(self, parameters: Parameters, optimizer: Optimizer) -> tuple[int, list[dict], dict]:
        """Load the newest undamaged checkpoint into the weights and the optimizer.

        Returns:
            The number of steps done, the history so far and the loss scaler's state; (0, [], {}) if
            there is no checkpoint.

        Raises:
            LabkitError: the checkpoint belongs to another model, method, data or settings, or to a newer labkit; all
                checkpoints are damaged; or something that is no checkpoint has the name of one.
        """
        self._require_own()
        fault = None
        for folder in reversed(self._found()):
            try:
                record, tensors = self._read(folder, parameters)
            except records.DamagedError as problem:
                fault = fault or problem
                continue
            if fault:
                warnings.warn(f"{fault.cause} Going on from {folder.name} instead.", stacklevel=2)
            restore(tensors, parameters, optimizer)
            return record["done"], record["history"], record["scaler"]
        if fault:
            raise fault
        return 0, [], {}

    def clear(self) -> None:
        """Remove all checkpoints of this folder, and what killed runs left half-written.

        Raises:
            LabkitError: something that is no checkpoint has the name of one.
        """
        self._require_own()
        self._remove(self._found())

    def _read(self, folder: Path, parameters: Parameters) -> tuple[dict, dict[str, torch.Tensor]]:
        path = folder / records.FILE
        record = records.read_json(path, "checkpoint", KEYS)
        if record["done"] != _step(folder) or not isinstance(record["identity"], dict):
            raise records.damaged(path, f"it is of step {record['done']}")
        model = record["identity"].get("model")
        is_old = record.get("version", 0) == 0
        if is_old and isinstance(model, dict) and model.get("fingerprint") == (self.old_fingerprint or None):
            model["fingerprint"] = self.identity["model"]["fingerprint"]
        if differ := differences(record["identity"], self.identity):
            raise LabkitError(
                f"The checkpoint {folder} belongs to another run ({'; '.join(differ)}).",
                "Resume with the same model, task, method and settings, or name another checkpoint folder.",
            )
        tensors = records.read_tensors(folder / WEIGHTS)
        if name := find_mismatch(tensors, parameters):
            raise records.damaged(folder / WEIGHTS, f"it does not hold {name} as this run has it")
        return record, tensors

    def _found(self) -> list[Path]:
        """Return everything named like a checkpoint, the newest last."""
        if not self.folder.is_dir():
            return []
        folders.recover(self.folder)
        steps = {step: path for path in self.folder.iterdir() if (step := _step(path)) is not None}
        return [steps[step] for step in sorted(steps)]

    def _require_own(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise LabkitError(f"{self.folder} is a file.", "Name a folder for the checkpoints.")
        for path in self._found():
            _require_checkpoint(path)

    def _remove(self, found: list[Path]) -> None:
        for path in found:
            with suppress(LabkitError):  # somebody else put it there during the run
                _require_checkpoint(path)
                folders.discard(path)
        for path in folders.leftovers(self.folder, "step-[0-9]{6,}"):
            shutil.rmtree(path, ignore_errors=True)


def _step(path: Path) -> int | None:
    """Return the step in the name of a checkpoint's folder, or None for any other name."""
    match = re.fullmatch(r"step-([0-9]{6}|[1-9][0-9]{6,})", path.name)
    return int(match[1]) if match else None


def _require_checkpoint(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        raise LabkitError(f"{folder} is not a folder.", "Move it, or name another folder for the checkpoints.")
    ownership.require_ours(folder, "checkpoint", KEYS, (records.FILE, WEIGHTS), half=True)
