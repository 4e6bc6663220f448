"""Checkpoints: all that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from labkit.errors import LabkitError
from labkit.storage import folders, records
from labkit.training.config import TrainingConfig

STATES = ("step", "exp_avg", "exp_avg_sq")  # AdamW's, for each trained weight
WEIGHTS = "state.safetensors"
KEYS = ("done", "identity", "history", "scaler")

# What a run may go on with although it is other than before, because it changes none of the run's numbers:
# - the name that a model was loaded under: its fingerprint tells whether it is the same;
# - a method's own learning rate, which is but the default of the rate in the settings;
# - how often a checkpoint is written;
# - gradient checkpointing, which computes the same activations twice instead of keeping them;
# - the longest text: it acts on the examples alone, and their hash is compared.
FREE = {
    "model": ("name",),
    "method": ("learning_rate",),
    "settings": ("checkpoint_every", "gradient_checkpointing", "max_length"),
}


class Checkpoints:
    """A folder of checkpoints of one run.

    The random numbers of a step depend on the seed and the step alone, and the order of the examples
    on the seed, so weights, optimizer states and the step are the whole state of a run.

    Args:
        folder: where the checkpoints are. What is called step-000020 and the like in it must be checkpoints; other
            files are left alone.
        identity: what the run is made of (model, method, settings, data), as JSON can hold it. A
            checkpoint is loaded only into a run of the same identity.
        old_fingerprint: what stands for the same model in checkpoints without a format version.
    """

    def __init__(self, folder: Path, identity: dict, old_fingerprint: str = ""):
        self.folder, self.old_fingerprint = Path(folder), old_fingerprint
        self.identity = json.loads(json.dumps(identity))

    def save(self, done: int, parameters: dict, optimizer, history: list[dict], scaler: dict) -> None:
        """Write the state after ``done`` steps, then remove older checkpoints and half-written ones."""
        tensors = {f"weight.{name}": p.detach().contiguous() for name, p in parameters.items()}
        for name, parameter in parameters.items():
            for key in STATES:
                if key in (state := optimizer.state.get(parameter, {})):
                    tensors[f"{key}.{name}"] = state[key].contiguous()
        final = self.folder / f"step-{done:06d}"
        with folders.new_folder(final, replace=True, check=_require_checkpoint) as folder:
            save_file(tensors, folder / WEIGHTS)
            record = {"done": done, "identity": self.identity, "history": history, "scaler": scaler}
            records.write_record(folder, "checkpoint", record)
        # Checkpoints of later steps are damaged: the run began at an older one.
        self._remove([path for path in self._found() if path != final])

    def load(self, parameters: dict, optimizer) -> tuple[int, list[dict], dict]:
        """Put the newest checkpoint that is whole into the weights and the optimizer.

        Returns:
            The number of steps done, the history so far and the loss scaler's state; (0, [], {}) where
            there is no checkpoint.

        Raises:
            LabkitError: the checkpoint belongs to another model, method, data or settings, or to a newer labkit, none
                is whole, or something that is no checkpoint is called like one.
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
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(tensors[f"weight.{name}"])
                    state = {key: tensors[f"{key}.{name}"] for key in STATES if f"{key}.{name}" in tensors}
                    optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}
            return record["done"], record["history"], record["scaler"]
        if fault:
            raise fault
        return 0, [], {}

    def clear(self) -> None:
        """Remove all checkpoints of this folder, and what killed runs left half-written.

        Raises:
            LabkitError: something that is no checkpoint is called like one.
        """
        self._require_own()
        self._remove(self._found())

    def _read(self, folder: Path, parameters: dict) -> tuple[dict, dict]:
        path = folder / records.FILE
        record = records.read_json(path, "checkpoint", KEYS)
        if record["done"] != _step(folder) or not isinstance(record["identity"], dict):
            raise records.damaged(path, f"it is of step {record['done']}")
        model = record["identity"].get("model")
        old = record.get("version", 0) == 0 and isinstance(model, dict)
        if old and model.get("fingerprint") == (self.old_fingerprint or None):
            model["fingerprint"] = self.identity["model"]["fingerprint"]
        if differ := _differences(record["identity"], self.identity):
            raise LabkitError(
                f"The checkpoint {folder} belongs to another run ({'; '.join(differ)}).",
                "Resume with the same model, task, method and settings, or name another checkpoint folder.",
            )
        tensors = records.read_tensors(folder / WEIGHTS)
        for name, parameter in parameters.items():
            states = [f"{key}.{name}" for key in STATES if f"{key}.{name}" in tensors]
            shapes = [tensors[key].shape for key in (f"weight.{name}", *states[1:]) if key in tensors]
            if shapes != [parameter.shape] * (1 + max(0, len(states) - 1)) or len(states) not in (0, len(STATES)):
                raise records.damaged(folder / WEIGHTS, f"it does not hold {name} as this run has it")
        return record, tensors

    def _found(self) -> list[Path]:
        """Return what is called like a checkpoint, the newest last."""
        if not self.folder.is_dir():
            return []
        folders.recover(self.folder)
        return sorted((path for path in self.folder.iterdir() if _step(path) is not None), key=_step)

    def _require_own(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise LabkitError(f"{self.folder} is a file.", "Name a folder for the checkpoints.")
        for path in self._found():
            _require_checkpoint(path)

    def _remove(self, found: list[Path]) -> None:
        for path in found:
            with suppress(LabkitError):  # what somebody put there while the run went on
                _require_checkpoint(path)
                folders.discard(path)
        for path in folders.leftovers(self.folder, "step-[0-9]{6,}"):
            shutil.rmtree(path, ignore_errors=True)


def _step(path: Path) -> int | None:
    """Return the step in the name of a checkpoint's folder; None where it is no such name."""
    match = re.fullmatch(r"step-([0-9]{6}|[1-9][0-9]{6,})", path.name)
    return int(match[1]) if match else None


def _require_checkpoint(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        raise LabkitError(f"{folder} is not a folder.", "Move it, or name another folder for the checkpoints.")
    records.require_ours(folder, "checkpoint", KEYS, (records.FILE, WEIGHTS), half=True)


def _differences(theirs: dict, ours: dict) -> list[str]:
    differ = []
    for part, mine in ours.items():
        other = theirs.get(part)
        if not (isinstance(mine, dict) and isinstance(other, dict)):
            differ += [f"{part}: {other} there, {mine} here"] if other != mine else []
            continue
        if part == "settings":  # those that an older labkit did not have were as they are by default
            other = asdict(TrainingConfig()) | other
        keys = [key for key in other | mine if key not in FREE.get(part, ()) and other.get(key) != mine.get(key)]
        if keys:
            details = ", ".join(f"{key} {other.get(key)} there and {mine.get(key)} here" for key in keys)
            differ.append(f"{part}: {details}")
    return differ
