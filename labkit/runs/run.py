"""A finished run: what it holds, and how it is saved."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.memory import MemoryReport
from labkit.methods import Method
from labkit.methods.trained import Trained
from labkit.models.model import Model
from labkit.runs.places import new_place
from labkit.storage import folders, ownership, records
from labkit.training.config import TrainingConfig
from labkit.training.head import save_head
from labkit.training.rl import RL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEYS = ("method", "config", "base", "task", "labels", "history", "memory")
# What labkit wrote into a run's folder before the record listed its files.
FILES = (records.FILE, "adapter_config.json", "adapter_model.safetensors", "head.safetensors", "model.safetensors")


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
        history: a record for each step, with the keys step, loss, learning_rate, grad_norm, tokens, seconds; with a
            preference, also those of ``labkit.training.pair_objective.COLUMNS``, such as margin and pair_accuracy.
        memory: what one step held in memory at its peak.
        rl: how it learned from rewards, where it did; the history then has the keys of ``lk.reinforce``.
        kept: whether this is an earlier run that ``keep=…`` gave back instead of training.
    """

    model: Model
    method: Method
    config: TrainingConfig
    base: dict[str, Any]
    task: str
    labels: tuple[str, ...] = ()
    history: list[dict[str, Any]] = field(default_factory=list, repr=False)
    memory: MemoryReport | None = field(default=None, repr=False)
    rl: RL | None = None
    kept: bool = field(default=False, compare=False)
    trained: Trained = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.trained = Trained.of(self.model)

    @property
    def trained_parameters(self) -> int:
        """How many numbers were trained."""
        return sum(p.numel() for p in self.model.trainable().values())

    def plot(self, column: str = "loss") -> Axes:
        """Draw a column of the history over the steps, and return the axes."""
        from labkit.display import plots  # the only part of a run that needs matplotlib

        return plots.history(self.history, column=column)

    def save(self, name: str | Path, *, overwrite: bool = False) -> Path:
        """Write what was trained, with settings and history, and return the folder.

        Args:
            name: a plain name is kept under LABKIT_HOME/runs; a path is taken as it is.
            overwrite: replace a run of that name. Nothing but a saved run is ever replaced.

        Raises:
            LabkitError: the name doesn't suit a folder, something else has that name, or the model no longer holds
                what was trained, so that a saved run couldn't bring it back.
        """
        folder = new_place(name, "runs")
        self.require_whole()
        with folders.new_folder(folder, replace=overwrite, check=_require_run) as new:
            self.write_weights(new)
            content = self.content()
            if self.memory:
                content["memory"]["timeline"] = ()  # thousands of numbers
            records.write_record(new, "run", content)
        return folder

    def require_whole(self) -> None:
        """Raise a ``LabkitError`` if the model no longer holds what was trained."""
        self.trained.require_in(self.model, self.method.name)

    def write_weights(self, folder: Path) -> None:
        """Write what was trained into an empty folder."""
        self.method.save(self.model, folder)
        save_head(self.model, folder)

    def content(self) -> dict[str, Any]:
        """Return all but the weights, as a record holds it."""
        return {
            "method": self.method.to_dict(),
            "config": asdict(self.config),
            "base": self.base,
            "task": self.task,
            "labels": self.labels,
            "history": self.history,
            "memory": asdict(self.memory) if self.memory else None,
            **({"rl": asdict(self.rl)} if self.rl else {}),
        }


def describe(model: Model) -> dict[str, Any]:
    """Return what identifies the base model of a run: name, fingerprint, precision and 4-bit storage."""
    return {
        "name": model.name,
        "fingerprint": model.fingerprint(),
        "precision": str(model.precision).removeprefix("torch."),
        "quantization": asdict(model.quantization) if model.quantization else None,
    }


def _require_run(folder: Path) -> None:
    ownership.require_ours(folder, "run", KEYS, FILES)
