"""Fine-tune a model on a task in one call, or predict what that would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError, shown
from labkit.generation.prompts import fitted
from labkit.memory import MemoryReport
from labkit.methods import Method, get_method
from labkit.models.model import Model
from labkit.planning import predict_step, require_fit, step_of
from labkit.preparation import configure, encode_examples, largest_batches, largest_rollouts, prepare
from labkit.process import as_by_default
from labkit.runs import Run, describe
from labkit.runs.identity import identity_of, require_keepable, resumable
from labkit.runs.keep import Kept
from labkit.runs.making import make
from labkit.runs.places import new_place
from labkit.tasks.questions import questions
from labkit.tasks.task import Task
from labkit.training.accelerator import own_accelerate
from labkit.training.callbacks import Callback
from labkit.training.checkpoints import Checkpoints
from labkit.training.config import TrainingConfig
from labkit.training.loop import Trainer
from labkit.training.processes import meet_the_others
from labkit.training.rl import RL
from labkit.training.rl_settings import require_suited


@as_by_default()
@own_accelerate()
def finetune(
    model: Model,
    task: Task,
    method: str | Method = "lora",
    *,
    inplace: bool = False,
    replay: Sequence[str] | Sequence[list[dict]] = (),
    callbacks: Sequence[Callback] = (),
    checkpoints: str | Path | None = None,
    resume: bool = False,
    keep: str | Path | None = None,
    progress: bool = True,
    force: bool = False,
    **settings: Any,
) -> Run:
    """Fine-tune ``model`` on ``task`` and return the run, whose ``model`` is the tuned one.

    ``model`` is left as it was: adapters share its weights' memory, full fine-tuning works on a copy.

    Args:
        model: where to start.
        task: what to learn; pairs of a chosen and a rejected completion need ``preference=lk.Preference("dpo")``.
        method: a name or an instance, such as ``"lora"`` or ``lk.LoRA(rank=4)``.
        inplace: let full fine-tuning change ``model`` itself, which saves the copy.
        replay: general texts, or conversations, to rehearse on, against forgetting; see
            ``TrainingConfig.replay_every``.
        callbacks: called after each step, such as ``lk.Every``.
        checkpoints: a folder (or a name under LABKIT_HOME/checkpoints) to save the state of the run in.
        resume: go on from the newest checkpoint there; without it, old checkpoints are removed.
        keep: a name under LABKIT_HOME/kept (or a folder) to keep the run in. If a run of the very same model, method,
            settings, data and callbacks is kept there, it is returned instead of a new one (``run.kept``), after its
            first step has been trained again and has come out the same. Its callbacks are not called: the history
            holds what they found. Without callbacks, a run that had only ``lk.Every`` is returned as well. Runs that
            differ in any of this are kept beside each other; ``labkit kept`` lists them with their sizes, and removes
            them. A run of an adapter that was stopped before its end goes on where it was; one of full fine-tuning
            does so with ``checkpoints`` and ``resume=True``.
        progress: show a bar, which also says whether the run is a kept one.
        force: run even if the memory is predicted to be too small.
        **settings: fields of ``TrainingConfig``: steps, learning_rate, batch_size, seed, …

    Raises:
        LabkitError: bad settings, nothing to learn, too little memory, a checkpoint of another run, or a run that
            cannot be kept.
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
    saved = kept = None
    if resume and checkpoints is None:
        raise LabkitError("resume=True needs the folder of the checkpoints.", "Pass checkpoints=… as in the first run.")
    if checkpoints is not None:
        saved = _checkpoints(checkpoints, config, model, resumable(base, method, config, examples + rehearsal))
    if keep is not None:
        require_keepable(method, inplace)
        kept = Kept(keep, identity_of(model, method, config, examples, rehearsal, task.labels, callbacks))
    processes = meet_the_others(model.device)

    def begin() -> Trainer:
        tuned = prepare(model, task, method, config.seed, inplace=inplace)
        return Trainer(tuned, examples, config, rehearsal, processes)

    about = {"method": method, "config": config, "base": base, "task": task.name}
    shown = progress and processes.rank == 0
    return make(model, begin, about, callbacks, saved=saved, resume=resume, kept=kept, progress=shown)


def predict_memory(
    model: Model,
    task: Task | Sequence[str] | Sequence[list[dict]],
    method: str | Method = "lora",
    *,
    replay: Sequence[str] | Sequence[list[dict]] = (),
    rl: RL | None = None,
    reference_copy: bool = False,
    **settings: Any,
) -> MemoryReport:
    """Return the peak memory of the run that ``finetune`` would make of the same arguments, without running it.

    With ``rl``, it is the run that ``reinforce`` would make: at most, because all replies are taken to be as long as
    they may be. What the rewards take themselves, such as a reward model, is not counted.

    Args:
        model, method, **settings: as for ``finetune`` or ``reinforce``.
        task: what to learn; with ``rl``, it may be a list of prompts.
        replay: as for ``finetune``.
        rl: how to learn from rewards.
        reference_copy: count a second copy of the model before training, as many libraries hold it for preferences and
            rewards. labkit needs none: it asks the model in training, its adapter disabled.

    Raises:
        LabkitError: bad settings, nothing to learn, or an architecture that cannot be planned for.
    """
    method = get_method(method)
    config = configure(model, method, settings)
    if rl is None:
        if not isinstance(task, Task):
            raise LabkitError(f"{shown(task)} is no task.", "Pass a task; prompts alone need rl=lk.RL(…).")
        batches = largest_batches(*encode_examples(model, task, replay, config), config)
        steps = [step_of(model, method, config, batch, len(task.labels)) for batch in batches]
    else:
        require_suited(rl, config, method, reference=reference_copy)
        if replay:
            raise LabkitError("replay doesn't go with rewards.", "Leave it out; against forgetting, raise beta of RL.")
        prompts = fitted(model, questions(task)[1], rl.max_new_tokens + getattr(method, "virtual_tokens", 0))
        steps = [step_of(model, method, config, each, 0) for each in largest_rollouts(prompts, config, rl)]
    steps = [replace(step, rl=rl, reference_copy=reference_copy) for step in steps]
    return max((predict_step(step).on(model.device) for step in steps), key=lambda report: report.peak)


def _checkpoints(name: str | Path, config: TrainingConfig, model: Model, identity: dict[str, Any]) -> Checkpoints:
    if config.optimizer != "adamw":
        raise LabkitError("Checkpoints hold the states of AdamW only.", 'Set optimizer="adamw", or no checkpoints.')
    return Checkpoints(new_place(name, "checkpoints"), identity, model.old_fingerprint())
