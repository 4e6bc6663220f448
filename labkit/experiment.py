"""Fine-tune a model on a task in one call, or predict what that would take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError
from labkit.memory import MemoryReport
from labkit.methods import Method, get_method
from labkit.models.model import Model
from labkit.planning import predict_step, require_fit, step_of
from labkit.preparation import configure, encode_examples, largest_batches, prepare
from labkit.process import as_by_default
from labkit.runs import Run, describe
from labkit.runs.places import new_place
from labkit.tasks.task import Task
from labkit.training.accelerator import own_accelerate
from labkit.training.batching import Example
from labkit.training.callbacks import Callback, Progress
from labkit.training.checkpoints import Checkpoints
from labkit.training.config import TrainingConfig
from labkit.training.loop import Trainer


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
    **settings: Any,
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
        force: run even if the memory is predicted to be too small.
        **settings: fields of ``TrainingConfig``: steps, learning_rate, batch_size, seed, …

    Raises:
        LabkitError: bad settings, nothing to learn, too little memory, or a checkpoint of another run.
        TrainingDivergedError: the loss was not finite; ``error.run`` holds the last good weights.

    Whatever else ends the run early, such as the stop button, reaches the caller too, and has the run so far in its
    attribute ``run``: in a notebook, ``sys.last_value.run``. That model is whole and ready for use. Its weights are
    those after the last step of the history, or after the next step if the stop came just as that ended.
    Threads that train, evaluate or plan take turns.
    """
    method = get_method(method)
    config = configure(model, method, settings)
    examples, rehearsal = encode_examples(model, task, replay, config)
    if not force:
        for batch in largest_batches(examples, rehearsal, config, -1):
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
        stop.run = run  # type: ignore[attr-defined]  # what was learned so far isn't lost
        raise
    finally:
        run.history, run.memory = trainer.history, trainer.memory
    return run


def predict_memory(
    model: Model, task: Task, method: str | Method = "lora", *, replay: Sequence[str] = (), **settings: Any
) -> MemoryReport:
    """Return the peak memory of the run that ``finetune`` would make of the same arguments, without running it.

    Args:
        model, task, method, replay, **settings: as for ``finetune``.

    Raises:
        LabkitError: bad settings, nothing to learn, or an architecture that cannot be planned for.
    """
    method = get_method(method)
    config = configure(model, method, settings)
    batches = largest_batches(*encode_examples(model, task, replay, config), config)
    steps = [step_of(model, method, config, batch, len(task.labels)) for batch in batches]
    return max((predict_step(step).on(model.device) for step in steps), key=lambda report: report.peak)


def _identity(base: dict[str, Any], method: Method, config: TrainingConfig, examples: list[Example]) -> dict[str, Any]:
    """Return what a checkpoint must share with a run that resumes from it."""
    content = json.dumps([(e.tokens, e.learned, e.label) for e in examples])
    data = hashlib.sha256(content.encode()).hexdigest()[:16]
    return {"model": base, "method": method.to_dict(), "settings": asdict(config), "data": data}
