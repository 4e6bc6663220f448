"""Checkpoints: all that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from labkit.assets.cache import new_folder
from labkit.errors import LabkitError

STATES = ("step", "exp_avg", "exp_avg_sq")  # AdamW's, for each trained weight


class Checkpoints:
    """A folder of checkpoints of one run.

    The random numbers of a step depend on the seed and the step alone, and the order of the examples
    on the seed, so weights, optimizer states and the step are the whole state of a run.

    Args:
        folder: where the checkpoints are.
        identity: what the run is made of (model, method, settings, data), as JSON can hold it. A
            checkpoint is loaded only into a run of the same identity.
    """

    def __init__(self, folder: Path, identity: dict):
        self.folder = Path(folder)
        self.identity = json.loads(json.dumps(identity))

    def save(self, done: int, parameters: dict, optimizer, history: list[dict], scaler: dict) -> None:
        """Write the state after ``done`` steps, then remove older checkpoints and half-written ones."""
        tensors = {f"weight.{name}": p.detach().contiguous() for name, p in parameters.items()}
        for name, parameter in parameters.items():
            for key in STATES:
                if key in (state := optimizer.state.get(parameter, {})):
                    tensors[f"{key}.{name}"] = state[key].contiguous()
        with new_folder(self.folder / f"step-{done:06d}", replace=True) as folder:
            save_file(tensors, folder / "state.safetensors")
            record = {"done": done, "identity": self.identity, "history": history, "scaler": scaler}
            (folder / "run.json").write_text(json.dumps(record))
        for old in [*self._found()[:-1], *self._unfinished()]:
            shutil.rmtree(old, ignore_errors=True)

    def load(self, parameters: dict, optimizer) -> tuple[int, list[dict], dict]:
        """Put the newest checkpoint into the weights and the optimizer.

        Returns:
            The number of steps done, the history so far and the loss scaler's state; (0, [], {}) where
            there is no checkpoint.

        Raises:
            LabkitError: the checkpoint belongs to another model, method, data or settings.
        """
        found = self._found()
        if not found:
            return 0, [], {}
        record = json.loads((found[-1] / "run.json").read_text())
        if record["identity"] != self.identity:
            theirs, ours = record["identity"], self.identity
            differ = [key for key in ours if theirs.get(key) != ours[key]]
            details = "; ".join(f"{key}: {theirs.get(key)} there, {ours[key]} here" for key in differ)
            raise LabkitError(
                f"The checkpoint {found[-1]} belongs to another run ({details}).",
                "Resume with the same model, task, method and settings, or name another checkpoint folder.",
            )
        tensors = load_file(found[-1] / "state.safetensors")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"weight.{name}"])
                optimizer.state[parameter] = {
                    key: tensors[f"{key}.{name}"].to(parameter.device) for key in STATES if f"{key}.{name}" in tensors
                }
        return record["done"], record["history"], record["scaler"]

    def clear(self) -> None:
        """Remove all checkpoints of this folder, and what killed runs left half-written."""
        for path in [*self._found(), *self._unfinished()]:
            shutil.rmtree(path, ignore_errors=True)

    def _unfinished(self) -> list[Path]:
        return list(self.folder.glob(".step-*"))

    def _found(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        folders = [p for p in self.folder.iterdir() if re.fullmatch(r"step-\d{6}", p.name)]
        return sorted(p for p in folders if (p / "run.json").is_file())
