"""A finished run: what it holds, and how it is kept and brought back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from labkit.display import plots
from labkit.errors import LabkitError, unknown
from labkit.memory import MemoryReport
from labkit.methods import Method, get_method, quantize_model
from labkit.methods.trained import Trained
from labkit.models.load import load_model
from labkit.models.model import Model
from labkit.process import own_random_numbers
from labkit.quant.layers import Quantization
from labkit.storage import cache, folders, names, records
from labkit.training.config import TrainingConfig
from labkit.training.head import load_head, save_head

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
    trained: Trained = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        self.trained = Trained.of(self.model)

    @property
    def trained_parameters(self) -> int:
        """How many numbers were trained."""
        return sum(p.numel() for p in self.model.trainable().values())

    def plot(self, column: str = "loss"):
        """Draw a column of the history over the steps, and return the axes."""
        return plots.history(self.history, column=column)

    def save(self, name: str | Path, *, overwrite: bool = False) -> Path:
        """Write what was trained, with settings and history, and return the folder.

        Args:
            name: a plain name is kept under LABKIT_HOME/runs; a path is taken as it is.
            overwrite: replace a run of that name. Nothing but a saved run is ever replaced.

        Raises:
            LabkitError: the name does not suit a folder, something else is in the place, or the model no longer holds
                what was trained, so that a saved run could not bring it back.
        """
        folder = run_folder(name)
        self.trained.require_in(self.model, self.method.name)
        content = {
            "method": self.method.to_dict(),
            "config": asdict(self.config),
            "base": self.base,
            "task": self.task,
            "labels": self.labels,
            "history": self.history,
            "memory": asdict(self.memory) | {"timeline": ()} if self.memory else None,
        }
        with folders.new_folder(folder, replace=overwrite, check=_require_run) as new:
            self.method.save(self.model, new)
            save_head(self.model, new)
            records.write_record(new, "run", content)
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
        LabkitError: there is no such run, its files are damaged or those of a newer labkit, or ``base`` is not the
            model, precision or quantization that it was trained on.
    """
    folder = _place(name, "runs")
    path = folder / records.FILE
    if not path.is_file():
        folders.recover(folder.parent)
    if not path.is_file():
        if folder.is_dir() and folder.name and any(folder.glob("*.safetensors")):
            raise records.damaged(path, "it is missing")
        runs = cache.home() / "runs"
        found = [p for p in runs.iterdir() if (p / records.FILE).is_file()] if runs.is_dir() else []
        raise unknown("saved run", str(name), [p.name for p in found if not p.name.startswith(".")])
    record = records.read_json(path, "run", KEYS)
    try:
        method, config = get_method(record["method"]), TrainingConfig(**record["config"])
        memory = MemoryReport(**record["memory"]) if record["memory"] else None
        labels, history = tuple(record["labels"]), [dict(row) for row in record["history"]]
        trained, quantization = dict(record["base"]), record["base"].get("quantization")
        stored = Quantization(**quantization) if quantization else None
        original, _ = str(trained["name"]), trained["fingerprint"]
    except (KeyError, TypeError, ValueError, AttributeError, LabkitError) as problem:
        reason = getattr(problem, "cause", f"{type(problem).__name__}: {problem}").rstrip(".")
        raise records.damaged(path, f"it is damaged ({reason})") from problem
    if base is None:
        try:
            base = load_model(original, precision=trained.get("precision", "auto"))
        except LabkitError as problem:
            raise LabkitError(
                f"{folder.name} was trained on {original}, which could not be loaded. {problem.cause}",
                "Pass that model yourself: lk.load_run(…, base=lk.load_model(…)).",
            ) from problem
        if stored:
            base = quantize_model(base, stored, inplace=True)
    given = describe(base)
    differ = [key for key in trained if key != "name" and trained[key] != given.get(key)]
    if record.get("version", 0) == 0 and trained["fingerprint"] == base.old_fingerprint():
        differ = [key for key in differ if key != "fingerprint"]  # the first format's covered less
    if differ and not force:
        details = "; ".join(f"{key} {trained[key]} there, {given.get(key)} here" for key in differ)
        raise LabkitError(
            f"{folder.name} was trained on {original}, and {base.name} is not that model as it was ({details}).",
            "Leave `base` out to load the right one, or pass force=True to try it all the same.",
        )
    with own_random_numbers(base.device):
        model = load_head(method.load(base, folder), folder, len(labels))
    model.labels = labels
    return Run(model, method, config, trained, record["task"], labels, history, memory)


def run_folder(name: str | Path) -> Path:
    """Return where a new run of this name is kept; a name that does not suit a folder is a ``LabkitError``."""
    return named_folder(name, "runs")


def named_folder(name: str | Path, kind: str) -> Path:
    """Return a folder to write in: a plain name lies under LABKIT_HOME, a path is taken as it is.

    Raises:
        LabkitError: the name does not suit a folder.
    """
    names.require_new_name(name)
    return _place(name, kind)


def _place(name: str | Path, kind: str) -> Path:
    path = names.as_path(name)
    return cache.home() / kind / path if path.name == str(name) else path


def _require_run(folder: Path) -> None:
    records.require_ours(folder, "run", KEYS, FILES)
