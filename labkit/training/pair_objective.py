"""What a step of preference learning computes: the loss of pairs, beside what the model said before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from labkit.models.encoding import padding_id
from labkit.models.model import Model
from labkit.training.batching import Batch, Example, collate
from labkit.training.config import TrainingConfig
from labkit.training.pairs import log_probabilities, mismatched
from labkit.training.preference import LogProbs, Preference, preference_loss
from labkit.training.processes import Processes
from labkit.training.reference import Reference
from labkit.training.schedule import Schedule

# What a step's record says of its pairs, as means: how much more reward the chosen completion gets, the share of pairs
# in which it gets more, and the log-probabilities (nats a completion) and rewards of both.
COLUMNS = ("margin", "pair_accuracy", "chosen_logp", "rejected_logp", "chosen_reward", "rejected_reward")


@dataclass
class PairBatch:
    """Pairs that go through the model together.

    Attributes:
        rows: all chosen completions, then all rejected ones.
        before: their log-probabilities before training, shape (rows,); None where the loss doesn't need them.
        mismatched: for KTO, the same completions after prompts of other pairs, and None for other losses.
        mismatched_before: their log-probabilities before training.
        count: of rows, in all processes.
        mean_tokens: tokens of a chosen completion, on average over the step.
    """

    rows: Batch
    before: torch.Tensor | None
    mismatched: Batch | None
    mismatched_before: torch.Tensor | None
    count: int
    mean_tokens: float


class PairObjective:
    """Takes the place of ``completion_loss`` where pairs are learned.

    It computes the reference at once, for the pairs that the run will use. Dropout stays on in training, as the method
    and the model have it (TRL switches it off); the reference has none.

    Args:
        model: before its first step.
        schedule: the pairs of each step.
        config: settings with a preference.
        processes: those that share the work.
    """

    def __init__(self, model: Model, schedule: Schedule, config: TrainingConfig, processes: Processes):
        self.preference = config.preference or Preference()
        self.schedule, self.processes = schedule, processes
        self._model, self._room = model, min(config.max_length, model.max_length)
        self._sums, self._pairs = torch.zeros(len(COLUMNS), device=model.device), 0
        self.reference = None
        if self.preference.needs_reference:
            batches = (batch for step in range(config.steps) for batch in schedule.batches(step))
            rows = (row for batch in batches for row in (*self._mine(batch), *self._mismatched(batch)))
            self.reference = Reference(model, rows, 2 * config.batch_size)

    def batches(self, step: int) -> tuple[list[PairBatch], float]:
        """Return this process's batches of a step, and the weight of one pair in the loss."""
        whole = self.schedule.batches(step)
        chosen = [example.learned for batch in whole for example in batch[::2]]
        self._sums, self._pairs = torch.zeros_like(self._sums), len(chosen)
        return [self._batch(batch, sum(chosen) / len(chosen)) for batch in whole], 1 / len(chosen)

    def __call__(self, model: Model, batch: PairBatch) -> tuple[torch.Tensor, int]:
        """Return the summed loss of a batch's pairs, and their number."""
        baseline = self._baseline(model, batch)
        now, tokens = log_probabilities(model, batch.rows)
        policy = LogProbs(*now.chunk(2), *tokens.chunk(2))
        before = None if batch.before is None else LogProbs(*batch.before.chunk(2), *tokens.chunk(2))
        judged = preference_loss(self.preference, policy, before, baseline=baseline, mean_tokens=batch.mean_tokens)
        real = policy.chosen_tokens > 0  # a process without a share has a pair of which nothing is learned
        margin = judged.chosen - judged.rejected
        found = (margin, margin > 0, policy.chosen.detach(), policy.rejected.detach(), judged.chosen, judged.rejected)
        self._sums = self._sums + torch.stack([(each * real).sum() for each in found])
        return (judged.losses * real).sum(), len(real)

    def found(self) -> dict[str, float]:
        """Return the means of ``COLUMNS`` over the pairs of the step that has just been computed."""
        means = self.processes.total(self._sums) / self._pairs
        return {name: mean.item() for name, mean in zip(COLUMNS, means, strict=True)}

    @torch.no_grad()
    def _baseline(self, model: Model, batch: PairBatch) -> torch.Tensor | float:
        """Return KTO's z₀: the mean of log π/π_ref over completions of other prompts, at least 0."""
        if batch.mismatched is None:
            return 0.0
        now, _ = log_probabilities(model, batch.mismatched)
        return (self.processes.total((now - batch.mismatched_before).sum()) / batch.count).clamp(min=0)

    def _batch(self, batch: Sequence[Example], mean_tokens: float) -> PairBatch:
        rows, others = self._mine(batch), self._mismatched(batch)
        pad, device = padding_id(self._model), self._model.device
        return PairBatch(
            collate(rows, pad, device),
            self.reference.of(rows) if self.reference else None,
            collate(others, pad, device) if others else None,
            self.reference.of(others) if self.reference and others else None,
            len(batch),
            mean_tokens,
        )

    def _mine(self, pairs: Sequence[Example]) -> list[Example]:
        share = self.processes.share_of(pairs, together=2)
        return [*share[::2], *share[1::2]]

    def _mismatched(self, pairs: Sequence[Example]) -> list[Example]:
        return self._mine(mismatched(pairs, self._room)) if self.preference.loss == "kto" else []
