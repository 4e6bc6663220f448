"""Fine-tune a model on a task in one call, and keep the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from labkit.assets import cache
from labkit.assets.models import Model, load_model
from labkit.assets.tasks import Task
from labkit.display.plots import plot_history
from labkit.errors import LabkitError, unknown
from labkit.evaluation import head_for
from labkit.memory import MemoryReport
from labkit.methods import Method, get_method, quantize_model
from labkit.planning import find_config, method_on, predicted, require_fit
from labkit.quant.layers import Quantization
from labkit.training.batching import Example, Schedule, encode, encode_text
from labkit.training.callbacks import Callback, Progress
from labkit.training.checkpoints import Checkpoints
from labkit.training.config import TrainingConfig
from labkit.training.head import load_head, save_head
from labkit.training.loop import Trainer, TrainingDivergedError


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


def finetune(
    model: Model,
    task: Task,
    method: str | Method = "lora",
    *,
    inplace: bool = False,
    replay: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    checkpoints: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    force: bool = False,
    **settings,
) -> Run:
    """Fine-tune ``model`` on ``task`` and return the run, whose ``model`` is the tuned one.

    ``model`` is left as it was: adapters share its weights' memory, full fine-tuning works on a copy.

    Args:
        model: where to start.
        task: what to learn.
        method: a name or an instance, such as ``"lora"`` or ``lk.LoRA(rank=4)``.
        inplace: let full fine-tuning change ``model`` itself, which saves the copy.
        replay: general texts to rehearse on, against forgetting; see ``TrainingConfig.replay_every``.
        callbacks: called after each step, such as ``lk.Every``.
        checkpoints: a folder (or a name under LABKIT_HOME/checkpoints) to save the state of the run in.
        resume: go on from the newest checkpoint there; without it, old checkpoints are removed.
        progress: show a bar.
        force: run although the plan says that the memory will not do.
        **settings: fields of ``TrainingConfig``: steps, learning_rate, batch_size, seed, …

    Raises:
        LabkitError: bad settings, nothing to learn, too little memory, or a checkpoint of another run.
        TrainingDivergedError: the loss was not finite; ``error.run`` holds the last good weights.
    """
    method = get_method(method)
    config = _config(method, settings)
    examples, rehearsal = _examples(model, task, replay, config)
    if not force:
        classes = len(task.labels) if model.kind == "encoder" else 0
        require_fit(model, method, config, Schedule(examples, rehearsal, config), classes, inplace=inplace)
    base = describe(model)
    saved = None
    if resume and checkpoints is None:
        raise LabkitError("resume=True needs the folder of the checkpoints.", "Pass checkpoints=… as in the first run.")
    if checkpoints is not None:
        if config.optimizer != "adamw":
            raise LabkitError("Checkpoints hold the states of AdamW only.", 'Set optimizer="adamw", or no checkpoints.')
        folder = _folder(checkpoints, "checkpoints")
        saved = Checkpoints(folder, _identity(base, method, config, examples + rehearsal))
        if not resume:
            saved.clear()
    tuned = prepare(model, task, method, config.seed, inplace=inplace)
    trainer = Trainer(tuned, examples, config, rehearsal)
    run = Run(tuned, method, config, base, task.name, task.labels if tuned.head else (), trainer.history)
    bar = [Progress(config.steps)] if progress else []
    try:
        trainer.run([*callbacks, *bar], saved)
    except TrainingDivergedError as stop:
        stop.run = run
        raise
    finally:
        run.history, run.memory = trainer.history, trainer.memory
    return run


def predict_memory(
    model: Model, task: Task, method: str | Method = "lora", *, replay: Sequence[str] = (), **settings
) -> MemoryReport:
    """Return the peak memory of the run that ``finetune`` would make of the same arguments, without running it.

    Args:
        model, task, method, replay, **settings: as for ``finetune``.

    Raises:
        LabkitError: bad settings, nothing to learn, or an architecture that cannot be planned for.
    """
    method = get_method(method)
    config = _config(method, settings)
    method = method_on(model, method)
    batch = Schedule(*_examples(model, task, replay, config), config).largest_batch()
    network, classes = find_config(model)[1], len(task.labels)
    config = replace(config, batch_size=len(batch))
    prediction = predicted(network, method, config, batch, model.precision, classes)
    return prediction.allocated if model.device.type == "cuda" else prediction.tensors


def _config(method: Method, settings: dict) -> TrainingConfig:
    settings.setdefault("learning_rate", method.learning_rate)
    if odd := settings.keys() - TrainingConfig.__dataclass_fields__.keys():
        raise unknown("setting", sorted(odd)[0], TrainingConfig.__dataclass_fields__)
    return TrainingConfig(**settings)


def _examples(
    model: Model, task: Task, replay: Sequence[str], config: TrainingConfig
) -> tuple[list[Example], list[Example]]:
    if model.kind == "encoder" and (not task.labels or replay):
        raise LabkitError(
            f"{model.name} is an encoder: it learns classes, not text.",
            "Use a task with labels and no replay, or a causal model.",
        )
    examples = encode(model, task.train["prompt"], task.train["completion"], config.max_length, task.labels)
    return examples, encode_text(model, replay, config.max_length) if replay else []


def prepare(model: Model, task: Task, method: Method, seed: int, *, inplace: bool = False) -> Model:
    """Return ``model`` with the method's parameters in place; new ones depend on ``seed`` alone."""
    head = None
    if model.kind == "encoder":
        head = head_for(model, task.labels)
    torch.manual_seed(seed)
    tuned = method.apply(model, inplace=inplace)
    if head is not None:
        tuned.head = (tuned.head or head).requires_grad_(True)
    return tuned


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
    model = load_head(method.load(base, folder), folder)
    memory = MemoryReport(**record["memory"]) if record["memory"] else None
    config = TrainingConfig(**record["config"])
    labels = tuple(record["labels"])
    return Run(model, method, config, trained, record["task"], labels, record["history"], memory)


def run_folder(name: str | Path) -> Path:
    """Return where a run of this name is kept."""
    return _folder(name, "runs")


def _folder(name: str | Path, kind: str) -> Path:
    path = Path(name).expanduser()
    return cache.home() / kind / path if path.name == str(name) else path


def _identity(base: dict, method: Method, config: TrainingConfig, examples: list[Example]) -> dict:
    content = json.dumps([(e.tokens, e.learned, e.label) for e in examples])
    data = hashlib.sha256(content.encode()).hexdigest()[:16]
    return {"model": base, "method": method.to_dict(), "settings": asdict(config), "data": data}
