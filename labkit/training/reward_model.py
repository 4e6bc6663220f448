"""A reward model: an encoder with a scalar head, which learns from pairs which reply people prefer.

Bradley and Terry (1952, Biometrika 39, 324–345): the chance that one reply is preferred to another is the logistic
function of the difference of their rewards. So only differences are learned: where 0 lies means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional as F

from labkit.conversations.messages import conversation
from labkit.errors import LabkitError, shown
from labkit.generation.replies import Reply
from labkit.models.encoding import frame, known_ids, padding_id, tokenize
from labkit.models.model import Model
from labkit.models.truncation import say_lost
from labkit.tasks.questions import question_of
from labkit.training.batching import Batch, Example, collate
from labkit.training.checkpoints import Checkpoints
from labkit.training.config import TrainingConfig
from labkit.training.inference import infer
from labkit.training.loop import Trainer
from labkit.training.objectives import class_logits
from labkit.training.rewards import Reward

LABELS = ("reward",)  # of a head with a single row
Question: TypeAlias = str | Sequence[dict]  # a text, or a conversation


@dataclass(frozen=True)
class Pair(Example):
    """A pair of replies to one question: the ``tokens`` of the chosen one, and those of the rejected one.

    Attributes:
        rejected: token ids.
    """

    rejected: tuple[int, ...] = ()


def bradley_terry(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Return the mean over pairs of −log P(chosen is preferred), from the rewards of each."""
    return -F.logsigmoid(chosen - rejected).mean()


def scalar_head(model: Model) -> nn.Linear:
    """Return a new head, whose weights are drawn.

    A text's vector has the length 1 here. With the usual weights, of deviation 0.02 for vectors whose numbers are about
    1, all rewards would be about 0, and hardly a gradient would pass.
    """
    width = model.module.config.hidden_size
    head = nn.Linear(width, 1, device=model.device)
    nn.init.normal_(head.weight, std=0.02 * width**0.5)
    nn.init.zeros_(head.bias)
    return head


def encode_replies(model: Model, questions: Sequence[Question], replies: Sequence[str]) -> list[list[int]]:
    """Return the ids of each question and its reply, as an encoder reads pairs: ``[CLS] question [SEP] reply [SEP]``.

    Of what is too long for the model, the question loses its beginning, and a reply that is too long by itself its end.
    A ``TruncationWarning`` says how many did.

    Raises:
        LabkitError: a question is no text and no conversation, or a reply is no text or empty.
    """
    texts = [_text(question, number) for number, question in enumerate(questions, 1)]
    for number, reply in enumerate(replies, 1):
        if not isinstance(reply, str):
            raise LabkitError(f"Reply {number} is no text but {shown(reply)}.", "Pass a text for each question.")
    front, back = frame(model.tokenizer)
    most, rows, cut = model.max_length - len(front) - 2 * len(back), [], 0
    for asked, said in zip(tokenize(model, texts), tokenize(model, replies), strict=True):
        cut += len(asked) + len(said) > most
        answer = said[:most]
        rows.append([*front, *asked[max(0, len(asked) + len(answer) - most) :], *back, *answer, *back])
    say_lost(cut, len(rows), "reply with its question", "beginning", model.max_length)
    return known_ids(model, rows)


def encode_preferences(model: Model, rows: Sequence[dict[str, Any]]) -> list[Pair]:
    """Return pairs of rows with ``prompt``, ``chosen`` and ``rejected``.

    Raises:
        LabkitError: a row can't be used: its replies are equal, or one is empty.
    """
    both = [(reply_text(row, "chosen", n), reply_text(row, "rejected", n)) for n, row in enumerate(rows, 1)]
    for number, (chosen, rejected) in enumerate(both, 1):
        if chosen.strip() == rejected.strip():
            raise LabkitError(f"Row {number} prefers {shown(chosen)} to itself.", "Leave such pairs out.")
    asked = [row["prompt"] for row in rows]
    ids = encode_replies(model, asked * 2, [chosen for chosen, _ in both] + [rejected for _, rejected in both])
    pairs = zip(ids[: len(rows)], ids[len(rows) :], strict=True)
    return [Pair(chosen, 0, rejected=tuple(rejected)) for chosen, rejected in pairs]


def reply_text(row: dict[str, Any], column: str, number: int) -> str:
    """Return a reply of a row, which is a text or a list of one message; ``number`` names the row in an error."""
    given = row.get(column)
    text = given[0].get("content") if isinstance(given, list) and given and isinstance(given[0], dict) else given
    if not isinstance(text, str) or not text.strip():
        raise LabkitError(
            f"Row {number} has as {column} no reply but {shown(given)}.",
            "Write a text, or [{'role': 'assistant', 'content': …}].",
        )
    return text


def score(model: Model, questions: Sequence[Question], replies: Sequence[str], *, batch_size: int = 32) -> torch.Tensor:
    """Return the reward of each reply to its question, shape (replies,).

    Raises:
        LabkitError: the model is no reward model, or a question or a reply can't be read.
    """
    require_reward_model(model)
    examples = [Example(ids, 0) for ids in encode_replies(model, questions, replies)]
    return infer(model, examples, batch_size, lambda part: class_logits(model, part).float())[:, 0]


def learned_reward(model: Model) -> Reward:
    """Return a reward for ``lk.reinforce`` that a reward model gives, to the prompts of rows and their replies."""
    require_reward_model(model)

    def learned(rows: list[dict[str, Any]], replies: list[Reply]) -> list[float]:
        return score(model, [question_of(row) for row in rows], [reply.text for reply in replies]).tolist()

    return learned


def require_reward_model(model: Model) -> None:
    """Raise a ``LabkitError`` where a model gives no rewards."""
    if model.head is None or model.labels != LABELS:
        raise LabkitError(f"{model.name} is no reward model.", "Train one: lk.reward_model(encoder, task).model.")


class RewardTrainer(Trainer):
    """Trains an encoder with a scalar head on pairs; records the margin of rewards and the share of pairs in order."""

    def __init__(self, model: Model, pairs: Sequence[Pair], config: TrainingConfig):
        super().__init__(model, pairs, config)
        self.objective = self._loss
        self._margins: list[float] = []

    def step(self, step: int, checkpoints: Checkpoints | None = None) -> dict:
        """Take one step of the run, counted from 0, and return its record."""
        self._margins = []
        record = super().step(step, checkpoints)
        found = {"margin": fmean(self._margins), "pair_accuracy": fmean(margin > 0 for margin in self._margins)}
        return record | found

    def _batches(self, step: int) -> tuple[list[Batch], float]:
        made, count, pad = [], 0, padding_id(self.model)
        for batch in self.schedule.batches(step):
            pairs = [pair for pair in batch if isinstance(pair, Pair)]
            rejected = [Example(list(pair.rejected), 0) for pair in pairs]
            made.append(collate([*pairs, *rejected], pad, self.model.device))
            count += len(pairs)
        return made, 1 / count

    def _loss(self, model: Model, batch: Batch) -> tuple[torch.Tensor, int]:
        chosen, rejected = class_logits(model, batch).float()[:, 0].chunk(2)
        self._margins += (chosen - rejected).tolist()
        return bradley_terry(chosen, rejected) * len(chosen), len(chosen)


def _text(question: Question, number: int) -> str:
    """Return what an encoder reads of a question: a conversation's texts, a line for each message."""
    if isinstance(question, str):
        return question
    return "\n".join(turn["content"] for turn in conversation(question, f"Question {number}"))
