"""Train a reward model, or a model on rewards, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError
from labkit.generation.prompts import fitted
from labkit.methods import Method, get_method
from labkit.models.model import Model
from labkit.preparation import configure, prepare
from labkit.process import as_by_default, own_random_numbers, seed_all
from labkit.runs import Run, describe
from labkit.runs.identity import identity_of_policy, require_keepable, resumable_policy
from labkit.runs.keep import Kept
from labkit.runs.making import make
from labkit.runs.places import new_place
from labkit.tasks.questions import questions
from labkit.tasks.task import Task
from labkit.training.accelerator import own_accelerate
from labkit.training.callbacks import Callback
from labkit.training.checkpoints import Checkpoints
from labkit.training.judged import encode_preferences
from labkit.training.policy import PolicyTrainer
from labkit.training.processes import count_processes
from labkit.training.reward_model import LABELS, RewardTrainer, scalar_head
from labkit.training.rewards import Reward, Rewards
from labkit.training.rl import RL
from labkit.training.rl_settings import require_suited


@as_by_default()
@own_accelerate()
def reward_model(
    model: Model,
    task: Task,
    method: str | Method = "full",
    *,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Train an encoder with a scalar head to prefer the chosen replies of a task, and return the run.

    Measure it with ``lk.score_pairs``; ``labkit.training.reward_model.score`` gives rewards, and ``learned_reward``
    makes a reward for ``lk.reinforce`` of it. The history also has margin, the mean difference of the rewards of chosen
    and rejected replies, and pair_accuracy, the share of pairs in the right order.

    Args:
        model: an encoder; it is left as it was.
        task: its training rows have ``prompt`` (a text or a conversation), ``chosen`` and ``rejected``.
        method: which parameters are trained beside the head.
        callbacks: called after each step, such as ``lk.Every``.
        progress: show a bar.
        **settings: fields of ``TrainingConfig``; ``batch_size`` counts pairs.

    Raises:
        LabkitError: the model is no encoder, or the task has no pairs or some that can't be used.
        TrainingDivergedError: the loss was not finite.
    """
    method = get_method(method)
    config = configure(model, method, settings)
    _require_alone()
    if model.kind != "encoder":
        raise LabkitError(f"{model.name} is no encoder.", "Use minilm, for example: its vectors stand for whole texts.")
    if not len(task.train) or not set(task.train.column_names) >= {"prompt", "chosen", "rejected"}:
        raise LabkitError(f"{task.name} has no pairs to learn.", "Use a task with prompt, chosen and rejected.")
    pairs = encode_preferences(model, [dict(row) for row in task.train])
    with own_random_numbers(model.device):
        seed_all(config.seed, model.device)
        tuned = method.apply(model)
        tuned.head, tuned.labels = scalar_head(tuned), LABELS
    about = {"method": method, "config": config, "base": describe(model), "task": task.name}
    return make(model, lambda: RewardTrainer(tuned, pairs, config), about, callbacks, progress=progress)


@as_by_default()
@own_accelerate()
def reinforce(
    model: Model,
    task: Task | Sequence[str] | Sequence[list[dict]],
    rewards: Reward | Sequence[Reward] | Mapping[Reward, float],
    method: str | Method = "lora",
    *,
    rl: RL | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoints: str | Path | None = None,
    resume: bool = False,
    keep: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Draw replies, reward them, make the better ones likelier, and return the run, whose ``model`` is the tuned one.

    ``model`` is left as it was. ``lk.predict_memory(…, rl=…)`` says what memory a step takes at most. The history has,
    for each step, beside what ``finetune`` records (loss and grad_norm are means over a step's updates):

    - reward, reward_std: mean and standard deviation over the step's replies; where there are several rewards, the mean
      of each is in reward_NAME;
    - kl: the divergence from the model before training, in nats per token, estimated from the replies; entropy: of the
      distributions that tokens are drawn from, in nats per token;
    - length: tokens of a reply; ended: the share of the replies that ended by themselves;
    - clipped: the share of tokens whose likelihood ratio is clipped; flat: that of groups without variance;
    - mismatch: how far log-probabilities in training are from those when the tokens were drawn, on average, before
      the first update. Beyond rounding, it is a bug;
    - skipped: where a reward failed, how. Such a step draws replies and learns nothing.

    Args:
        model: a causal model: where to start, and the reference of the KL divergence.
        task: a task, whose training prompts are asked, or a list of prompts: texts or conversations.
        rewards: a function of rows and replies that returns a number for each reply; or a list of such functions, or a
            dictionary with the weight of each. A row holds the task's columns, a reply is what ``lk.generate`` returns.
        method: a name or an instance, such as ``"lora"``.
        rl: how to learn from rewards.
        callbacks: called after each step, such as ``lk.Every``.
        checkpoints: a folder (or a name under LABKIT_HOME/checkpoints) to save the state of the run in.
        resume: go on from the newest checkpoint there, bit for bit if the rewards are the same functions: it knows them
            by name and weight alone, so that one may be fixed.
        keep: a name under LABKIT_HOME/kept (or a folder) to keep the run in, as ``finetune`` does: the very same run is
            given back, or goes on where it was stopped, and any other is kept beside it. Rewards, like callbacks, are
            the same if their code is, and what they hold: numbers, texts, functions and models, as attributes or as
            variables of a function around them. Lists, global variables and other functions that they call are not
            compared, nor can what a reward counts or remembers be restored. The first step, drawn and trained again,
            must bring the same rewards, though.
        progress: show a bar.
        **settings: fields of ``TrainingConfig``; ``batch_size`` is how many replies are read at once in training.

    Raises:
        LabkitError: bad settings or prompts, a model that cannot write, several processes, a checkpoint of another run,
            or a run that cannot be kept.
        RewardError: rewards failed at more than ``rl.max_failures`` steps; ``error.run`` holds the run so far.
        TrainingDivergedError: the loss was not finite; ``error.run`` holds the last good weights.
    """
    method, rl = get_method(method), RL() if rl is None else rl
    scored, config = Rewards(rewards), configure(model, method, settings)
    require_suited(rl, config, method)
    _require_alone()
    if resume and checkpoints is None:
        raise LabkitError("resume=True needs the folder of the checkpoints.", "Pass checkpoints=… as in the first run.")
    rows, asked = questions(task)
    room = rl.max_new_tokens + getattr(method, "virtual_tokens", 0)
    prompts, base = fitted(model, asked, room), describe(model)
    saved = kept = None
    if checkpoints is not None:
        identity = resumable_policy(base, method, config, [rows, prompts], rl, scored)
        saved = Checkpoints(new_place(checkpoints, "checkpoints"), identity)
    if keep is not None:
        require_keepable(method, inplace=False)
        kept = Kept(keep, identity_of_policy(model, method, config, [rows, prompts], rl, scored, callbacks))

    def begin() -> PolicyTrainer:
        tuned = prepare(model, task, method, config.seed)  # type: ignore[arg-type]  # a causal model needs no task
        return PolicyTrainer(tuned, rows, prompts, scored, config, rl)

    name = task.name if isinstance(task, Task) else "prompts"
    about = {"method": method, "config": config, "base": base, "task": name, "rl": rl}
    return make(model, begin, about, callbacks, saved=saved, resume=resume, kept=kept, progress=progress)


def _require_alone() -> None:
    if (count := count_processes()) > 1:
        raise LabkitError(
            f"This is trained by one process alone, and a launcher has started {count}.", "Start it without a launcher."
        )
