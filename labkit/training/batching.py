"""From texts to batches: tokens, masks, and an order that wastes little on padding."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from labkit.assets.models import Model
from labkit.errors import LabkitError
from labkit.training.config import TrainingConfig

IGNORED = -100  # the target that cross_entropy leaves out


@dataclass(frozen=True)
class Example:
    """One tokenized example: its token ids, and how many of the last ones are to be learned.

    For an encoder, which learns a class and no tokens, ``label`` is the number of the class.
    """

    tokens: list[int]
    learned: int
    label: int = -1


@dataclass
class Batch:
    """Tensors of shape (examples, longest example); ``targets`` is IGNORED where nothing is learned."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    targets: torch.Tensor
    labels: torch.Tensor
    tokens: int  # that are not padding


def encode(
    model: Model,
    prompts: Sequence[str],
    completions: Sequence[str],
    max_length: int,
    labels: Sequence[str] = (),
) -> list[Example]:
    """Tokenize examples for completion-only training: the prompt is read, the completion is learned.

    A causal model's completion ends with the end-of-text token, so that the model learns to stop. An
    example that is too long loses the beginning of its prompt, never its completion.

    Raises:
        LabkitError: an example keeps no prompt token, so that nothing could be learned from it.
    """
    tokenizer = model.tokenizer
    if model.kind == "encoder":
        encoded = tokenizer(list(prompts), truncation=True, max_length=max_length)["input_ids"]
        number = {label: i for i, label in enumerate(labels)}
        return [Example(ids, 0, number.get(c, -1)) for ids, c in zip(encoded, completions, strict=True)]
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    start = tokenizer(list(prompts))["input_ids"]
    rest = tokenizer(list(completions), add_special_tokens=False)["input_ids"]
    examples = []
    for row, (prompt, completion) in enumerate(zip(start, rest, strict=True)):
        learned = completion + end
        room = max_length - len(learned)
        if not completion or room < 1:
            raise LabkitError(
                f"Example {row + 1} has nothing to learn: its completion takes {len(learned)} tokens, and "
                f"max_length={max_length} leaves {max(room, 0)} for the prompt.",
                f"Set max_length to {len(learned) + len(prompt)} or shorten the completion.",
            )
        examples.append(Example(prompt[-room:] + learned, len(learned)))
    return examples


def encode_text(model: Model, texts: Sequence[str], max_length: int) -> list[Example]:
    """Tokenize plain text, every token but the first of which is learned."""
    ids = model.tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    return [Example(tokens, len(tokens) - 1) for tokens in ids if len(tokens) > 1]


def collate(examples: Sequence[Example], pad: int, device: torch.device) -> Batch:
    """Put examples into one rectangle, padded on the right."""
    shape = (len(examples), max(len(e.tokens) for e in examples))
    input_ids = torch.full(shape, pad)
    mask = torch.zeros(shape, dtype=torch.long)
    targets = torch.full(shape, IGNORED)
    for row, example in enumerate(examples):
        length = len(example.tokens)
        ids = torch.tensor(example.tokens)
        input_ids[row, :length] = ids
        mask[row, :length] = 1
        targets[row, length - example.learned : length] = ids[length - example.learned :]
    labels = torch.tensor([e.label for e in examples])
    tokens = sum(len(e.tokens) for e in examples)
    return Batch(input_ids.to(device), mask.to(device), targets.to(device), labels.to(device), tokens)


def plan_batches(lengths: Sequence[int], batch_size: int, batches: int, seed: int) -> list[list[int]]:
    """Return the indices of each batch of a run: shuffled, yet with examples of like length together.

    A batch is as wide as its longest example. Sorting everything would remove the padding and the
    randomness with it; sorting within random groups of 20 batches removes most of the first only. No
    group reaches into the next epoch; examples that fill no batch are left for it.
    """
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
        examples: what is learned.
        replay: what every ``config.replay_every``-th step is made on, where there is any.
        config: how many steps of what size.
    """

    def __init__(self, examples: Sequence[Example], replay: Sequence[Example], config: TrainingConfig):
        self._config = config
        self._sources = [examples, replay] if replay else [examples]
        count = config.steps * config.accumulation
        self._plans = [
            plan_batches([len(e.tokens) for e in source], config.batch_size, count, config.seed)
            for source in self._sources
        ]

    def batches(self, step: int) -> list[list[Example]]:
        """Return the batches of a step, counted from 0."""
        replayed = len(self._sources) > 1 and (step + 1) % self._config.replay_every == 0
        source, plan = self._sources[replayed], self._plans[replayed]
        start = step * self._config.accumulation
        return [[source[i] for i in row] for row in plan[start : start + self._config.accumulation]]

    def largest(self, start: int = 0) -> list[int]:
        """Return the steps that may take most memory: most padded tokens, and most tokens to be learned.

        They are looked for from the second step on: the first after ``start`` makes the optimizer's states and
        does not yet hold them throughout. −1 counts the first as well.
        """
        steps = range(min(start + 1, self._config.steps - 1), self._config.steps)
        return sorted({max(steps, key=lambda step: max(map(size, self.batches(step)))) for size in SIZES})

    def largest_batches(self, start: int = 0) -> list[list[Example]]:
        """Return the largest batches of those steps; one where they are the same."""
        batches = [batch for step in self.largest(start) for batch in self.batches(step)]
        tokens, learned = (max(batches, key=size) for size in SIZES)
        return [tokens] if tokens == learned else [tokens, learned]


def padded_tokens(batch: Sequence[Example]) -> int:
    """Return how many tokens a batch takes, padding included."""
    return len(batch) * max(len(example.tokens) for example in batch)


def padded_learned(batch: Sequence[Example]) -> tuple[int, int]:
    """Return for how many positions a batch needs logits, and its tokens, which count where that is equal."""
    return len(batch) * max(example.learned for example in batch), padded_tokens(batch)


SIZES = (padded_tokens, padded_learned)
