"""What a training run needs before its first step: checked settings, encoded examples, and a model with its adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from labkit.errors import LabkitError
from labkit.evaluation import head_for
from labkit.methods import Method
from labkit.models.model import Model
from labkit.models.truncation import warn
from labkit.process import own_random_numbers, seed_all
from labkit.tasks.task import Task
from labkit.training.batching import Example, encode
from labkit.training.config import TrainingConfig
from labkit.training.packing import require_packable
from labkit.training.pairs import COLUMNS, encode_pairs
from labkit.training.processes import Processes, count_processes
from labkit.training.rl import RL
from labkit.training.schedule import Schedule, plan_batches
from labkit.training.sft import encode_conversations, encode_tokens, has_conversations
from labkit.training.windows import encode_text


def configure(model: Model, method: Method, settings: dict[str, Any]) -> TrainingConfig:
    """Return the configuration, with the method's learning rate by default and no more tokens than the model reads.

    Raises:
        LabkitError: bad settings, or packing of examples that would see each other.
    """
    config = TrainingConfig.of(**{"learning_rate": method.learning_rate, **settings})
    if config.packing:
        require_packable(model, method)
    room = model.max_length - getattr(method, "virtual_tokens", 0)
    if config.max_length <= room or room < 1:
        return config
    if "max_length" in settings:
        warn(f"max_length={config.max_length} is more than {model.name} can read: it is trained on {room} tokens.")
    return replace(config, max_length=room)


def encode_examples(
    model: Model, task: Task, replay: Sequence[str] | Sequence[list[dict]], config: TrainingConfig
) -> tuple[list[Example], list[Example]]:
    """Return the task's training examples and the texts to rehearse, as tokens; of pairs, see ``encode_pairs``.

    Raises:
        LabkitError: the task doesn't suit the model, or there is nothing to learn.
    """
    if model.kind == "encoder" and (not task.labels or replay):
        raise LabkitError(
            f"{model.name} is an encoder: it learns classes, not text.",
            "Use a task with labels and no replay, or a causal model.",
        )
    if not len(task.train):
        raise LabkitError(f"{task.name} has no training examples.", "Use a task that has some.")
    columns = set(task.train.column_names)
    if config.preference or columns >= set(COLUMNS[1:]):
        return _encode_pairs(model, task, replay, config), []
    if columns >= {"input_ids", "labels"} and model.kind == "causal" and config.learn == "last":
        examples = encode_tokens(model, list(task.train.select_columns(["input_ids", "labels"])), config.max_length)
    elif has_conversations(model, task):
        examples = encode_conversations(model, task.train["messages"], config.max_length, config.learn)
    else:
        if config.learn != "last":
            raise LabkitError(
                f"learn={config.learn!r} is about the replies of conversations, and {task.name} has none to learn.",
                "Leave learn out, or use a task with a column `messages` and a causal model.",
            )
        examples = encode(model, task.train["prompt"], task.train["completion"], config.max_length, task.labels)
    talks = [each for each in replay if not isinstance(each, str)]
    if talks and len(talks) < len(replay):
        raise LabkitError("replay has texts and conversations.", "Pass only texts, or only lists of messages.")
    if talks:
        rehearsal = encode_conversations(model, talks, config.max_length)
    else:
        rehearsal = encode_text(model, cast(Sequence[str], replay), config.max_length) if replay else []
    if replay and not rehearsal:
        raise LabkitError("None of the texts in replay has two tokens.", "Pass longer ones, or no replay.")
    return examples, rehearsal


def _encode_pairs(model: Model, task: Task, replay: Sequence[object], config: TrainingConfig) -> list[Example]:
    if config.preference is None:
        raise LabkitError(
            f"{task.name} has pairs of a chosen and a rejected completion, and no loss says how to learn from them.",
            'Pass preference=lk.Preference("dpo").',
        )
    if lacking := set(COLUMNS) - set(task.train.column_names):
        raise LabkitError(
            f"{task.name} has no column {min(lacking)!r}, and a preference needs {', '.join(COLUMNS)}.",
            "Leave preference out, or use a task of pairs.",
        )
    if replay or config.learn != "last":
        what = "replay" if replay else f"learn={config.learn!r}"
        raise LabkitError(
            f"{what} doesn't go with a preference.",
            "Leave it out; against forgetting, raise beta, or sft of Preference.",
        )
    return encode_pairs(model, list(task.train.select_columns(list(COLUMNS))), config.max_length)


def largest_batches(
    examples: list[Example], rehearsal: list[Example], config: TrainingConfig, start: int = 0
) -> list[Sequence[Example]]:
    """Return the batches that may take the most memory, each reduced to one process's share."""
    mine = Processes(count_processes())
    together = 2 if config.preference else 1
    return [mine.share_of(batch, together) for batch in Schedule(examples, rehearsal, config).largest_batches(start)]


def largest_rollouts(prompts: Sequence[list[int]], config: TrainingConfig, rl: RL) -> list[list[Example]]:
    """Return the replies of the steps that may take the most memory, each as long as it may be, behind its prompt.

    These are steps with the longest prompt: that with the fewest tokens, which has the most padding, and that with the
    most.
    """
    plan = plan_batches([len(ids) for ids in prompts], rl.prompts, config.steps, config.seed)
    lengths = [[len(prompts[i]) for i in step] for step in plan]
    longest = max(map(max, lengths))
    among = [i for i, each in enumerate(lengths) if max(each) == longest]
    fewest, most = min(among, key=lambda i: sum(lengths[i])), max(among, key=lambda i: sum(lengths[i]))
    unlike = [fewest] if lengths[fewest] == lengths[most] else [fewest, most]
    reply = [0] * rl.max_new_tokens
    return [
        [Example([*prompts[i], *reply], len(reply)) for i in plan[step] for _ in range(rl.group)] for step in unlike
    ]


def prepare(model: Model, task: Task, method: Method, seed: int, *, inplace: bool = False) -> Model:
    """Return ``model`` with the method's parameters in place; new ones depend on ``seed`` alone."""
    with own_random_numbers(model.device):
        before = model.head
        head = head_for(model, task.labels) if model.kind == "encoder" else None
        seed_all(seed, model.device)
        tuned = method.apply(model, inplace=inplace)
        if head is not None:
            if tuned.head is None or head is not before:  # a new head, or one with its rows in another order
                tuned.head = head
            tuned.head.requires_grad_(True)
            tuned.labels = tuple(task.labels)
    return tuned
