"""A finished run: what it holds, and how it is kept and brought back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from labkit.assets import cache
from labkit.assets.models import Model, load_model
from labkit.display.plots import plot_history
from labkit.errors import LabkitError, unknown
from labkit.memory import MemoryReport
from labkit.methods import Method, get_method, quantize_model
from labkit.process import own_random_numbers
from labkit.quant.layers import Quantization
from labkit.training.config import TrainingConfig
from labkit.training.head import load_head, save_head


@dataclass
class Run:
    """A finished fine-tuning run.

    Attributes:
        model: the tuned model.
        method: which parameters were trained.
        config: how they were trained.
        base: name, fingerprint, precision and 4-bit storage of the model it started from.
        task: name of the task.
        labels: the classes of an encoder's head, in order.
        history: a record for each step, with the keys step, loss, learning_rate, grad_norm, tokens, seconds.
        memory: what one step held in memory at its peak.
    """

    model: Model
    method: Method
    config: TrainingConfig
    base: dict
    task: str
    labels: tuple[str, ...] = ()
    history: list[dict] = field(default_factory=list, repr=False)
    memory: MemoryReport | None = field(default=None, repr=False)

    @property
    def trained_parameters(self) -> int:
        """How many numbers were trained."""
        return sum(p.numel() for p in self.model.trainable().values())

    def plot(self, column: str = "loss"):
        """Draw a column of the history over the steps, and return the axes."""
        return plot_history(self.history, column=column)

    def save(self, name: str | Path, *, overwrite: bool = False) -> Path:
        """Write what was trained, with settings and history, and return the folder.

        Args:
            name: a plain name is kept under LABKIT_HOME/runs; a path is taken as it is.
            overwrite: replace a run of that name.
        """
        folder = run_folder(name)
        record = {
            "method": self.method.to_dict(),
            "config": asdict(self.config),
            "base": self.base,
            "task": self.task,
            "labels": self.labels,
            "history": self.history,
            "memory": asdict(self.memory) | {"timeline": ()} if self.memory else None,
        }
        with cache.new_folder(folder, replace=overwrite) as new:
            self.method.save(self.model, new)
            save_head(self.model, new)
            (new / "run.json").write_text(json.dumps(record, indent=1, default=list))
        return folder


def describe(model: Model) -> dict:
    """Return what a saved run must find again in its base model."""
    return {
        "name": model.name,
        "fingerprint": model.fingerprint(),
        "precision": str(model.precision).removeprefix("torch."),
        "quantization": asdict(model.quantization) if model.quantization else None,
    }


def load_run(name: str | Path, base: Model | None = None, *, force: bool = False) -> Run:
    """Load a saved run. Its base model is loaded as it was in training, unless ``base`` is given.

    Args:
        name: as given to ``Run.save``.
        base: the model to put the adapter on.
        force: take ``base`` although it differs from the model of the training.

    Raises:
        LabkitError: there is no such run, or ``base`` is not the model, precision or quantization that it
            was trained on.
    """
    folder = run_folder(name)
    if not (folder / "run.json").is_file():
        runs = cache.home() / "runs"
        names = [p.name for p in runs.iterdir() if (p / "run.json").is_file()] if runs.is_dir() else []
        raise unknown("saved run", str(name), names)
    record = json.loads((folder / "run.json").read_text())
    trained = record["base"]
    if base is None:
        base = load_model(trained["name"], precision=trained.get("precision", "auto"))
        if trained.get("quantization"):
            base = quantize_model(base, Quantization(**trained["quantization"]), inplace=True)
    given = describe(base)
    if not force and (differ := [key for key in trained if key != "name" and trained[key] != given[key]]):
        details = "; ".join(f"{key} {trained[key]} there, {given[key]} here" for key in differ)
        raise LabkitError(
            f"{folder.name} was trained on {trained['name']}, and {base.name} is not that model as it was ({details}).",
            "Leave `base` out to load the right one, or pass force=True to try it all the same.",
        )
    method = get_method(record["method"])
    with own_random_numbers(base.device):
        model = load_head(method.load(base, folder), folder)
    memory = MemoryReport(**record["memory"]) if record["memory"] else None
    config = TrainingConfig(**record["config"])
    labels = tuple(record["labels"])
    return Run(model, method, config, trained, record["task"], labels, record["history"], memory)


def run_folder(name: str | Path) -> Path:
    """Return where a run of this name is kept."""
    return named_folder(name, "runs")


def named_folder(name: str | Path, kind: str) -> Path:
    """Return a folder: a plain name lies under LABKIT_HOME, a path is taken as it is."""
    path = Path(name).expanduser()
    return cache.home() / kind / path if path.name == str(name) else path
