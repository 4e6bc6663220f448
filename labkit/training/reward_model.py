"""A reward model: an encoder with a scalar head, which learns from pairs which reply people prefer.

Bradley and Terry (1952, Biometrika 39, 324–345): the chance that one reply is preferred to another is the logistic
function of the difference of their rewards. So only differences are learned: where 0 lies means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from labkit.errors import LabkitError
from labkit.generation.replies import Reply
from labkit.models.encoding import padding_id
from labkit.models.model import Model
from labkit.tasks.questions import question_of
from labkit.training.batching import Batch, Example, collate
from labkit.training.checkpoints import Checkpoints
from labkit.training.config import TrainingConfig
from labkit.training.inference import infer
from labkit.training.judged import Pair, Question, encode_replies
from labkit.training.loop import Trainer
from labkit.training.objectives import class_logits
from labkit.training.rewards import Reward

LABELS = ("reward",)  # of a head with a single row


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
