"""What a step of preference learning computes: the loss of pairs, beside what the model said before training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

    Dropout stays on in training, as the method and the model have it (TRL switches it off); the reference has none.

    Args:
        model: the model in training.
        schedule: the pairs of each step.
        config: settings with a preference.
        processes: those that share the work.
    """

    def __init__(self, model: Model, schedule: Schedule, config: TrainingConfig, processes: Processes):
        self.preference = config.preference or Preference()
        self.schedule, self.processes = schedule, processes
        self._model, self._room = model, min(config.max_length, model.max_length)
        self._sums, self._pairs = torch.zeros(len(COLUMNS), device=model.device), 0
        self.reference: Reference | None = None

    def prepare(self, steps: int) -> None:
        """Compute the reference for that many steps, each row once; before the first step, since weights change."""
        if self.preference.needs_reference and self.reference is None:
            self.reference = self._reference(range(steps))

    def batches(self, step: int) -> tuple[list[PairBatch], float]:
        """Return this process's batches of a step, and the weight of one pair in the loss."""
        whole, reference = self.schedule.batches(step), self.reference
        if self.preference.needs_reference and reference is None:
            assert step == 0, "prepare() comes before the second step"
            reference = self._reference([0])  # all that the proof of a kept run needs
        chosen = [example.learned for batch in whole for example in batch[::2]]
        self._sums.zero_()  # in place: the ledger has torch complain where a step frees what it has not seen made
        self._pairs = len(chosen)
        return [self._batch(batch, reference, sum(chosen) / len(chosen)) for batch in whole], 1 / len(chosen)

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
        self._sums += torch.stack([(each * real).sum() for each in found])
        return (judged.losses * real).sum(), len(real)

    def found(self) -> dict[str, float]:
        """Return the means of ``COLUMNS`` over the pairs of the step that has just been computed."""
        means = self.processes.total(self._sums) / self._pairs
        return {name: mean.item() for name, mean in zip(COLUMNS, means, strict=True)}

    @torch.no_grad()
    def _baseline(self, model: Model, batch: PairBatch) -> torch.Tensor | float:
        """Return KTO's z₀: the mean of log π/π_ref over completions of other prompts, at least 0."""
        if batch.mismatched is None or batch.mismatched_before is None:
            return 0.0
        now, _ = log_probabilities(model, batch.mismatched)
        return (self.processes.total((now - batch.mismatched_before).sum()) / batch.count).clamp(min=0)

    def _reference(self, steps: Iterable[int]) -> Reference:
        reference = Reference(self._model)
        for batch in (batch for step in steps for batch in self.schedule.batches(step)):
            reference.ask(self._mine(batch))
            reference.ask(self._mismatched(batch))
        return reference

    def _batch(self, batch: Sequence[Example], reference: Reference | None, mean_tokens: float) -> PairBatch:
        rows, others = self._mine(batch), self._mismatched(batch)
        pad, device = padding_id(self._model), self._model.device
        return PairBatch(
            collate(rows, pad, device),
            reference.of(rows) if reference else None,
            collate(others, pad, device) if others else None,
            reference.of(others) if reference and others else None,
            len(batch),
            mean_tokens,
        )

    def _mine(self, pairs: Sequence[Example]) -> list[Example]:
        share = self.processes.share_of(pairs, together=2)
        return [*share[::2], *share[1::2]]

    def _mismatched(self, pairs: Sequence[Example]) -> list[Example]:
        return self._mine(mismatched(pairs, self._room)) if self.preference.loss == "kto" else []
