"""The order of a run's batches: random, yet with little padding."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from labkit.errors import LabkitError
from labkit.training.batching import Example, learned_columns
from labkit.training.config import TrainingConfig
from labkit.training.packing import join, plan_rows


def plan_batches(lengths: Sequence[int], batch_size: int, batches: int, seed: int) -> list[list[int]]:
    """Return the indices of each batch of a run: shuffled, yet with examples of similar length together.

    A batch is as wide as its longest example. Sorting everything would remove the padding, but also the
    randomness; sorting within random groups of 20 batches removes most of the padding and keeps the order random.
    No group reaches into the next epoch; examples that do not fill a batch are carried over to it.

    Raises:
        LabkitError: there are no examples, or the batch size is below 1.
    """
    if not lengths or batch_size < 1:
        raise LabkitError(
            f"{len(lengths)} examples in batches of {batch_size} make no batch.",
            "Pass at least one example, and a batch_size from 1 up.",
        )
    rng = random.Random(seed)
    stream: list[int] = []
    plan: list[list[int]] = []
    while len(plan) < batches:
        epoch = list(range(len(lengths)))
        rng.shuffle(epoch)
        stream += epoch
        while len(stream) >= batch_size:
            size = min(20, len(stream) // batch_size) * batch_size
            group, stream = sorted(stream[:size], key=lambda index: lengths[index]), stream[size:]
            parts = [group[i : i + batch_size] for i in range(0, size, batch_size)]
            rng.shuffle(parts)
            plan += parts
    return plan[:batches]


class Schedule:
    """The batches of a whole run, fixed in advance by the seed alone: resuming needs only the step.

    Args:
        examples: what to learn.
        replay: the examples of every ``config.replay_every``-th step, if there are any.
        config: the number of steps, the size of their batches and the seed; with ``config.packing``, a batch is made
            of rows of several examples; with ``config.preference``, of pairs, whose two examples follow each other.
    """

    def __init__(self, examples: Sequence[Example], replay: Sequence[Example], config: TrainingConfig):
        self._config = config
        self._sources = [examples, replay] if replay else [examples]
        self._plans = [
            self._planned([len(example.tokens) for example in source], config.steps * config.accumulation)
            for source in self._sources
        ]

    def _planned(self, lengths: list[int], count: int) -> list[list[list[int]]]:
        """Return the examples of each row of each batch, by number."""
        config = self._config
        if config.packing:
            return plan_rows(lengths, config.max_length, config.batch_size, count, config.seed)
        if config.preference:
            longer = [max(both) for both in zip(lengths[::2], lengths[1::2], strict=True)]
            plan = plan_batches(longer, config.batch_size, count, config.seed)
            return [[[2 * pair + which] for pair in batch for which in (0, 1)] for batch in plan]
        return [[[i] for i in batch] for batch in plan_batches(lengths, config.batch_size, count, config.seed)]

    def batches(self, step: int) -> list[list[Example]]:
        """Return the batches of a step, counted from 0."""
        replayed = len(self._sources) > 1 and (step + 1) % self._config.replay_every == 0
        source, plan = self._sources[replayed], self._plans[replayed]
        start = step * self._config.accumulation
        batches = plan[start : start + self._config.accumulation]
        return [[join([source[i] for i in row]) for row in batch] for batch in batches]

    def largest(self, start: int = 0) -> list[int]:
        """Return the steps that may need the most memory: with most padded tokens, and with most tokens to learn.

        The first step after ``start`` does not count: it creates the optimizer's states, and does not yet hold them
        all the time. With ``start=-1``, all steps count.
        """
        steps = range(min(start + 1, self._config.steps - 1), self._config.steps)
        return sorted({max(steps, key=lambda step: max(map(size, self.batches(step)))) for size in SIZES})

    def largest_batches(self, start: int = 0) -> list[list[Example]]:
        """Return the largest batches of those steps, or one batch if they are the same."""
        batches = [batch for step in self.largest(start) for batch in self.batches(step)]
        tokens, learned = (max(batches, key=size) for size in SIZES)
        return [tokens] if tokens == learned else [tokens, learned]


def padded_tokens(batch: Sequence[Example]) -> int:
    """Return the number of tokens in a batch, padding included."""
    return len(batch) * max(len(example.tokens) for example in batch)


def padded_learned(batch: Sequence[Example]) -> tuple[int, int]:
    """Return the number of positions that a batch needs logits for, then its tokens, which decide between equals."""
    if any(example.mask is not None for example in batch):  # the objective computes the logits of just these
        return sum(example.learned for example in batch), padded_tokens(batch)
    return len(batch) * learned_columns(batch), padded_tokens(batch)


SIZES: tuple[Callable[[Sequence[Example]], int | tuple[int, int]], ...] = (padded_tokens, padded_learned)
