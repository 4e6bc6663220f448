"""From texts to batches: tokens, targets and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from labkit.errors import LabkitError
from labkit.models.context import cut, say_cut
from labkit.models.encoding import completion_ids, fit, headings, prompt_ids
from labkit.models.model import Model

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

    A causal model's completion ends with the end-of-text token, so that the model learns to stop. An example longer
    than ``max_length``, or than the model can read, loses the beginning of its prompt, never its completion; an
    encoder's prompt loses its end. A ``TruncationWarning`` says how many do.

    Raises:
        LabkitError: an example keeps no prompt token, so that nothing could be learned from it, or its completion is
            none of an encoder's labels.
    """
    most = min(max_length, model.max_length)
    rows = prompt_ids(model, prompts)
    if model.kind == "encoder":
        number = {label: i for i, label in enumerate(labels)}
        if odd := [completion for completion in completions if completion not in number]:
            raise LabkitError(f"{odd[0]!r} is none of the labels {list(labels)}.", "An encoder learns labels only.")
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


def encode_text(model: Model, texts: Sequence[str], max_length: int) -> list[Example]:
    """Tokenize plain text, every token but each text's first of which is learned once.

    A text longer than ``max_length``, or than the model can read, becomes several examples; see ``windows``. One of a
    single token, which none precedes, becomes none.
    """
    rows = prompt_ids(model, texts)
    return windows(model, rows, [len(ids) - 1 for ids in rows], max_length)


def windows(model: Model, rows: list[list[int]], learned: Sequence[int], max_length: int) -> list[Example]:
    """Return examples in which each of the last ids of every row is learned, or measured, once.

    Text that is longer than ``max_length``, or than the model can read, is read through windows of that width, each
    half a width further on (Press et al., 2021, arXiv:2012.15832; the perplexity page of transformers' documentation).
    A window's new tokens are predicted from the whole of it, so from at least half a width, and the tokens that begin
    every text stand at its front as well. Where even the first window leaves out the beginning of a row, a
    ``TruncationWarning`` says of how many.

    Args:
        model: who is to read.
        rows: ids of whole texts.
        learned: how many of the last ids of each row are learned, at most all but the first.
        max_length: the width of a window.

    Raises:
        LabkitError: a window is too narrow to predict anything in.
    """
    width = min(max_length, model.max_length)
    examples, firsts = [], []
    for ids, count, head in zip(rows, learned, headings(model, rows), strict=True):
        stride, done = (width - head) // 2, len(ids) - count
        if count and len(ids) > width and stride < 1:
            raise LabkitError(
                f"Windows of {width} tokens are too narrow to predict one token from others.",
                f"Set max_length to {head + 2} or more.",
            )
        firsts.append(min(len(ids), max(width, done + stride)))
        while done < len(ids):
            end = min(len(ids), max(width, done + stride))
            examples.append(Example(cut(ids[:end], width, head), end - done))
            done = end
    say_cut(firsts, [width] * len(firsts), "example", "beginning", width)
    return examples


def read(model: Model, texts: Sequence[str], max_length: int | None = None, what: str = "text") -> list[Example]:
    """Tokenize texts that are read and not learned, cut to what the model can read or to ``max_length``."""
    room = min(model.max_length, max_length or model.max_length)
    return [Example(ids, 0) for ids in fit(model, prompt_ids(model, texts), room, what)]


def collate(examples: Sequence[Example], pad: int, device: torch.device) -> Batch:
    """Put examples into one rectangle, padded on the right.

    Raises:
        LabkitError: there is no example, or an empty one.
    """
    if not all(e.tokens for e in examples) or not examples:
        raise LabkitError("A batch needs examples of at least one token each.", "Leave empty texts out.")
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
