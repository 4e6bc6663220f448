"""Texts longer than a model can read at once, read through overlapping windows."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.errors import LabkitError
from labkit.models.encoding import prompt_ids
from labkit.models.model import Model
from labkit.models.truncation import cut, headings, say_cut
from labkit.training.batching import Example


def encode_text(model: Model, texts: Sequence[str], max_length: int) -> list[Example]:
    """Tokenize plain text for training on all of it: each token except a text's first is learned once.

    A text longer than ``max_length``, or than the model can read, becomes several examples; see ``windows``. A text of
    a single token becomes none, because nothing precedes that token.
    """
    rows = prompt_ids(model, texts)
    return windows(model, rows, [len(ids) - 1 for ids in rows], max_length)


def windows(model: Model, rows: list[list[int]], learned: Sequence[int], max_length: int) -> list[Example]:
    """Return examples in which each of the last ids of every row is learned, or measured, once.

    Text longer than ``max_length``, or than the model can read, is read through windows of that width. Each window
    starts half a width after the one before it (Press et al., 2021, arXiv:2012.15832; the perplexity page of
    transformers' documentation), so its new tokens are predicted from at least half a width of text. The tokens that
    begin every text also stand at the front of each window. If even the first window leaves out the beginning of a
    row, a ``TruncationWarning`` says for how many rows.

    Args:
        model: the model that will read the windows.
        rows: token ids of whole texts.
        learned: how many of the last ids of each row are learned, at most all except the first.
        max_length: the width of a window, in tokens.

    Raises:
        LabkitError: a window is too narrow to predict a token in it.
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
