"""Fine-tune a model on a task in one call, or predict what that would take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

from labkit.errors import LabkitError
from labkit.evaluation import head_for
from labkit.memory import MemoryReport
from labkit.methods import Method, get_method
from labkit.models.context import warn
from labkit.models.model import Model
from labkit.planning import predict_step, require_fit, step_of
from labkit.process import as_by_default, own_random_numbers, seed_all
from labkit.runs import Run, describe
from labkit.runs.places import new_place
from labkit.tasks.task import Task
from labkit.training.accelerator import own_accelerate
from labkit.training.batching import Example, encode, encode_text
from labkit.training.callbacks import Callback, Progress
from labkit.training.checkpoints import Checkpoints
from labkit.training.config import TrainingConfig
from labkit.training.loop import Trainer
from labkit.training.processes import Processes, count_processes
from labkit.training.schedule import Schedule


@as_by_default()
@own_accelerate()
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

    Whatever else ends the run early, a press of the stop button included, goes on to the caller as well, and the
    run so far is in its ``run``: in a notebook, ``sys.last_value.run``. Its model is whole and ready for use, with
    the weights after the last step of its history, or after the next where the stop came at that very moment.
    Threads that train, evaluate or plan take turns.
    """
    method = get_method(method)
    config = _config(model, method, settings)
    examples, rehearsal = _examples(model, task, replay, config)
    if not force:
        for batch in _largest_batches(examples, rehearsal, config, -1):
            require_fit(model, step_of(model, method, config, batch, len(task.labels)), inplace=inplace)
    base = describe(model)
    saved = None
    if resume and checkpoints is None:
        raise LabkitError("resume=True needs the folder of the checkpoints.", "Pass checkpoints=… as in the first run.")
    if checkpoints is not None:
        if config.optimizer != "adamw":
            raise LabkitError("Checkpoints hold the states of AdamW only.", 'Set optimizer="adamw", or no checkpoints.')
        folder = new_place(checkpoints, "checkpoints")
        saved = Checkpoints(folder, _identity(base, method, config, examples + rehearsal), model.old_fingerprint())
        if not resume:
            saved.clear()
    tuned = prepare(model, task, method, config.seed, inplace=inplace)
    trainer = Trainer(tuned, examples, config, rehearsal)
    run = Run(tuned, method, config, base, task.name, task.labels if tuned.head else (), trainer.history)
    shown = progress and trainer.processes.rank == 0
    try:
        with closing(Progress(config.steps)) if shown else nullcontext() as bar:
            trainer.run([*callbacks, *([bar] if bar else [])], saved)
    except BaseException as stop:
        stop.run = run  # what was learned so far is not lost
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
    config = _config(model, method, settings)
    batches = _largest_batches(*_examples(model, task, replay, config), config)
    steps = [step_of(model, method, config, batch, len(task.labels)) for batch in batches]
    return max((predict_step(step).on(model.device) for step in steps), key=lambda report: report.peak)


def _config(model: Model, method: Method, settings: dict) -> TrainingConfig:
    config = TrainingConfig.of(**{"learning_rate": method.learning_rate, **settings})
    room = model.max_length - getattr(method, "virtual_tokens", 0)
    if config.max_length <= room or room < 1:
        return config
    if "max_length" in settings:
        warn(f"max_length={config.max_length} is more than {model.name} can read: it is trained on {room} tokens.")
    return replace(config, max_length=room)


def _examples(
    model: Model, task: Task, replay: Sequence[str], config: TrainingConfig
) -> tuple[list[Example], list[Example]]:
    if model.kind == "encoder" and (not task.labels or replay):
        raise LabkitError(
            f"{model.name} is an encoder: it learns classes, not text.",
            "Use a task with labels and no replay, or a causal model.",
        )
    if not len(task.train):
        raise LabkitError(f"{task.name} has no training examples.", "Take a task that has some.")
    examples = encode(model, task.train["prompt"], task.train["completion"], config.max_length, task.labels)
    rehearsal = encode_text(model, replay, config.max_length) if replay else []
    if replay and not rehearsal:
        raise LabkitError("None of the texts in replay has two tokens.", "Pass longer ones, or no replay.")
    return examples, rehearsal


def _largest_batches(
    examples: list[Example], rehearsal: list[Example], config: TrainingConfig, start: int = 0
) -> list[Sequence[Example]]:
    """Return the batches of which one takes most memory, each as large as a process's share of it."""
    mine = Processes(count_processes())
    return [mine.share_of(batch) for batch in Schedule(examples, rehearsal, config).largest_batches(start)]


def prepare(model: Model, task: Task, method: Method, seed: int, *, inplace: bool = False) -> Model:
    """Return ``model`` with the method's parameters in place; new ones depend on ``seed`` alone."""
    with own_random_numbers(model.device):
        before = model.head
        head = head_for(model, task.labels) if model.kind == "encoder" else None
        seed_all(seed, model.device)
        tuned = method.apply(model, inplace=inplace)
        if head is not None:
            if head is not before:  # new, or with its rows in another order
                tuned.head = head
            tuned.head.requires_grad_(True)
            tuned.labels = tuple(task.labels)
    return tuned


def _identity(base: dict, method: Method, config: TrainingConfig, examples: list[Example]) -> dict:
    content = json.dumps([(e.tokens, e.learned, e.label) for e in examples])
    data = hashlib.sha256(content.encode()).hexdigest()[:16]
    return {"model": base, "method": method.to_dict(), "settings": asdict(config), "data": data}
