"""From texts to batches: tokens, targets and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import accumulate
from operator import or_

import torch

from labkit.conversations.pieces import IGNORED
from labkit.errors import LabkitError
from labkit.models.encoding import completion_ids, prompt_ids
from labkit.models.model import Model
from labkit.models.truncation import fit, headings


@dataclass(frozen=True)
class Example:
    """One tokenized example, or several that share a row (``labkit.training.packing``).

    Attributes:
        tokens: token ids.
        learned: how many of them are learned.
        label: for an encoder, which learns a class and no tokens, the number of the class.
        mask: for each token, whether it is learned; None where the last ``learned`` ones are.
        parts: the numbers of tokens of the examples that share the row; () where it is one example.

    Raises:
        LabkitError: mask or parts don't suit the tokens, or a part's first token, which nothing precedes, is learned.
    """

    tokens: list[int]
    learned: int
    label: int = -1
    mask: tuple[bool, ...] | None = None
    parts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.parts and (self.mask is None or min(self.parts) < 1 or sum(self.parts) != len(self.tokens)):
            raise LabkitError(
                f"Parts of {list(self.parts)} tokens don't make up a row of {len(self.tokens)} with a mask.",
                "Pack examples with labkit.training.packing.join.",
            )
        if self.mask is None:
            return
        if len(self.mask) != len(self.tokens) or sum(self.mask) != self.learned:
            raise LabkitError(
                f"A mask of {len(self.mask)} tokens, {sum(self.mask)} of them learned, doesn't suit an example of "
                f"{len(self.tokens)} tokens with learned={self.learned}.",
                "Give the mask a value for each token, and let learned be the number of those that are true.",
            )
        if any(self.mask[first] for first in self.starts if first < len(self.mask)):
            raise LabkitError(
                "The mask says that an example's first token is learned, and nothing precedes it to predict it from.",
                "Let the mask of each example begin with False.",
            )

    @property
    def starts(self) -> list[int]:
        """Where each part begins; [0] for one example."""
        return list(accumulate(self.parts[:-1], initial=0))

    @property
    def is_learned(self) -> tuple[bool, ...]:
        """For each token, whether it is learned."""
        rest = len(self.tokens) - self.learned
        return self.mask if self.mask is not None else (False,) * rest + (True,) * self.learned

    @cached_property
    def bits(self) -> int:
        """The learned tokens as bits of a number: the lowest one stands for the first token."""
        if self.mask is None:
            return ((1 << self.learned) - 1) << (len(self.tokens) - self.learned)
        return int("".join("01"[bool(learned)] for learned in reversed(self.mask)) or "0", 2)


@dataclass
class Batch:
    """Tensors of shape (examples, longest example), but for ``labels``, which has one number for each example.

    Attributes:
        input_ids: the tokens.
        attention_mask: 1 for a token, 0 for padding.
        targets: the tokens that are learned, and IGNORED elsewhere.
        labels: the numbers of the classes.
        tokens: how many there are, without padding.
        masked: whether some example has a mask, so that learned tokens may be anywhere.
        position_ids: of packed rows: positions that start at 0 in each part, and at each token of padding; else None.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    targets: torch.Tensor
    labels: torch.Tensor
    tokens: int
    masked: bool = False
    position_ids: torch.Tensor | None = None


def encode(
    model: Model,
    prompts: Sequence[str],
    completions: Sequence[str],
    max_length: int,
    labels: Sequence[str] = (),
) -> list[Example]:
    """Tokenize examples for completion-only training: the model reads the prompt and learns the completion.

    A causal model's completion ends with the end-of-text token, so that the model learns to stop. An example longer
    than ``max_length``, or than the model can read, loses the beginning of its prompt, never its completion; an
    encoder's prompt loses its end. A ``TruncationWarning`` says how many examples were cut.

    Raises:
        LabkitError: an example keeps no prompt token, so nothing could be learned from it, or its completion is not
            one of an encoder's labels.
    """
    most = min(max_length, model.max_length)
    rows = prompt_ids(model, prompts)
    if model.kind == "encoder":
        number = {label: i for i, label in enumerate(labels)}
        if odd := [completion for completion in completions if completion not in number]:
            raise LabkitError(
                f"{odd[0]!r} is not one of the labels {list(labels)}.",
                "Use a task whose completions are all labels; an encoder learns nothing else.",
            )
        rows = fit(model, rows, most, "prompt")
        return [Example(ids, 0, number[c]) for ids, c in zip(rows, completions, strict=True)]
    rest = completion_ids(model, completions)
    for row, (ids, head) in enumerate(zip(rows, headings(model, rows), strict=True)):
        whole, room = len(ids) + len(rest[row]), most - len(rest[row])
        if not (completions[row] and rest[row]) or room < min(len(ids), head + 1):
            longer = f"Set max_length to {whole} or shorten" if whole <= model.max_length else "Shorten"
            raise LabkitError(
                f"Example {row + 1} has nothing to learn: its completion takes {len(rest[row])} tokens, and "
                f"max_length={most} leaves {max(room, 0)} for the prompt.",
                f"{longer} the completion.",
            )
    rows = fit(model, rows, [most - len(learned) for learned in rest], "example", most)
    return [Example(prompt + learned, len(learned)) for prompt, learned in zip(rows, rest, strict=True)]


def read(model: Model, texts: Sequence[str], max_length: int | None = None, what: str = "text") -> list[Example]:
    """Tokenize texts that the model reads without learning, cut to what it can read or to ``max_length``."""
    room = min(model.max_length, max_length or model.max_length)
    return [Example(ids, 0) for ids in fit(model, prompt_ids(model, texts), room, what)]


def collate(examples: Sequence[Example], pad: int, device: torch.device) -> Batch:
    """Stack examples into tensors, padded on the right with the token ``pad``.

    Raises:
        LabkitError: there are no examples, or one has no tokens.
    """
    if not all(e.tokens for e in examples) or not examples:
        raise LabkitError("A batch needs examples of at least one token each.", "Leave out empty texts.")
    shape = (len(examples), max(len(e.tokens) for e in examples))
    input_ids = torch.full(shape, pad)
    mask = torch.zeros(shape, dtype=torch.long)
    targets = torch.full(shape, IGNORED)
    positions = torch.zeros(shape, dtype=torch.long)
    packed = any(e.parts for e in examples)
    for row, example in enumerate(examples):
        length = len(example.tokens)
        ids = torch.tensor(example.tokens)
        input_ids[row, :length] = ids
        mask[row, :length] = 1
        learned = torch.tensor(example.is_learned)
        targets[row, :length][learned] = ids[learned]
        if packed:
            parts = example.parts or (length,)
            positions[row, :length] = torch.cat([torch.arange(part) for part in parts])
    labels = torch.tensor([e.label for e in examples])
    tokens = sum(len(e.tokens) for e in examples)
    masked = any(e.mask is not None for e in examples)
    where = positions.to(device) if packed else None
    return Batch(input_ids.to(device), mask.to(device), targets.to(device), labels.to(device), tokens, masked, where)


def learned_columns(examples: Sequence[Example]) -> int:
    """Return how many columns of a batch hold a learned token in some row: logits are computed for these."""
    return reduce(or_, (example.bits for example in examples), 0).bit_count()
