"""From texts to batches: tokens, targets and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from labkit.errors import LabkitError
from labkit.models.encoding import completion_ids, prompt_ids
from labkit.models.model import Model
from labkit.models.truncation import fit, headings

IGNORED = -100  # the target that cross_entropy leaves out


@dataclass(frozen=True)
class Example:
    """One tokenized example: its token ids, and how many of the last ones are learned.

    For an encoder, which learns a class and no tokens, ``label`` is the number of the class.
    """

    tokens: list[int]
    learned: int
    label: int = -1
    mask: tuple[bool, ...] | None = None  # which tokens are targets; None: the last ``learned`` ones


@dataclass
class Batch:
    """Tensors of shape (examples, longest example); ``targets`` is IGNORED where nothing is learned."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    targets: torch.Tensor
    labels: torch.Tensor
    tokens: int  # without padding


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
    for row, example in enumerate(examples):
        length = len(example.tokens)
        ids = torch.tensor(example.tokens)
        input_ids[row, :length] = ids
        mask[row, :length] = 1
        targets[row, length - example.learned : length] = ids[length - example.learned :]
    labels = torch.tensor([e.label for e in examples])
    tokens = sum(len(e.tokens) for e in examples)
    return Batch(input_ids.to(device), mask.to(device), targets.to(device), labels.to(device), tokens)
