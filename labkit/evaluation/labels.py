"""The accuracy on a task with labels: which label a model finds likeliest after each prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import permutations
from typing import TypeAlias, cast

import torch
from torch import nn
from torch.nn import functional as F

from labkit.conversations.masks import masked
from labkit.errors import LabkitError, require_count
from labkit.evaluation.heads import head_for
from labkit.evaluation.results import Evaluation, score
from labkit.generation.prompts import Prompts, fitted
from labkit.models.encoding import completion_ids, prompt_ids
from labkit.models.model import Model
from labkit.models.truncation import fit
from labkit.tasks.task import Task
from labkit.training.batching import Example
from labkit.training.inference import Part, infer
from labkit.training.objectives import logits_at, sentence_vectors
from labkit.training.sft import has_conversations

Stem: TypeAlias = tuple[int, ...]  # the first tokens of a label


def evaluate(model: Model, task: Task, *, batch_size: int = 32) -> Evaluation:
    """Predict the likeliest label for each test example and return the accuracy.

    Raises:
        LabkitError: the task has no fixed labels (measure ``perplexity`` instead), no test examples, or labels that
            the model cannot tell apart.
    """
    if not task.labels:
        raise LabkitError(
            f"{task.name} has free completions and no labels to choose among.",
            "Use lk.perplexity(model, task), which works for any text.",
        )
    if not len(task.test):
        raise LabkitError(f"{task.name} has no test examples.", "Use a task that has some.")
    scores = label_probabilities(model, tested_prompts(model, task), task.labels, batch_size=batch_size)
    return scored(task, scores)


def tested_prompts(model: Model, task: Task) -> list:
    """Return the test examples of ``task`` without their labels, as ``model`` reads them: texts or conversations."""
    talks = has_conversations(model, task)
    return [messages[:-1] for messages in task.test["messages"]] if talks else list(task.test["prompt"])


def scored(task: Task, probabilities: torch.Tensor) -> Evaluation:
    """Return the accuracy of taking the likeliest label; ``probabilities`` has the shape (test examples, labels)."""
    predicted = [task.labels[i] for i in probabilities.argmax(dim=1).tolist()]
    truth = list(task.test["completion"])
    hits = [p == t for p, t in zip(predicted, truth, strict=True)]
    names = {label: label.strip() for label in task.labels}
    if len(set(names.values())) < len(names):  # some differ by white space only
        names = {label: label for label in names}
    classes = [names.get(label) for label in truth]
    return score(hits, classes, list(names.values()), [names[p] for p in predicted])


def label_probabilities(
    model: Model, prompts: Sequence[str] | Sequence[list[dict]], labels: Sequence[str], *, batch_size: int = 32
) -> torch.Tensor:
    """Return the probability of each label after each prompt, shape (prompts, labels); rows sum to 1.

    For a causal model, the labels form a tree of tokens: where labels branch, the probability is shared
    among the branches, and all other tokens are ruled out. Labels that all differ in their first token
    therefore cost one forward pass. As in training, a label ends with the end-of-text token, which tells "red"
    from the beginning of "red wine". An encoder uses its trained head; without one, it compares the prompt's
    vector with the labels' (zero-shot).

    A prompt that does not fit into the model together with the longest label loses its beginning, and an encoder's
    loses its end; a ``TruncationWarning`` says how many were cut.

    Args:
        model: an encoder, or a causal model.
        prompts: texts; for a causal model also conversations (lists of messages), to which the labels are replies.
        labels: what to choose among.
        batch_size: prompts in a forward pass.

    Raises:
        LabkitError: there are no prompts or no labels, or labels that the model cannot tell apart.
    """
    batch_size = require_count("batch_size", batch_size)
    given = prompts if isinstance(prompts, str) else list(prompts)
    if not given or not labels:
        raise LabkitError(f"There are {len(given)} prompts and {len(labels)} labels.", "Pass at least one of each.")
    if model.kind == "encoder":
        rows = prompt_ids(model, cast(list[str], given))
        if not model.head:
            require_distinct(model, labels, prompt_ids(model, labels))
        head = head_for(model, labels)
        examples = [Example(ids, 0) for ids in fit(model, rows, model.max_length, "prompt")]
        return F.softmax(infer(model, examples, batch_size, partial(_classes, model, head)), dim=-1)
    starts, tokens = label_tokens(model, cast(Sequence[str], given), labels)

    def shares(stem: Stem, children: list[int]) -> torch.Tensor:
        examples = [Example([*start, *stem], 0) for start in starts]
        return F.softmax(infer(model, examples, batch_size, partial(_next_logits, model, children)), dim=-1)

    return along_tree(tokens, len(starts), shares)


def label_tokens(
    model: Model, prompts: Sequence[str] | Sequence[list[dict]], labels: Sequence[str]
) -> tuple[list[list[int]], list[Stem]]:
    """Return the tokens of each prompt, cut so that each label fits behind it, and those of each label with its end.

    Raises:
        LabkitError: ``model`` cannot tell the labels apart.
    """
    ids = _replies(model, labels) if isinstance(prompts[0], list) else completion_ids(model, labels)
    require_distinct(model, labels, ids)
    return fitted(model, cast(Prompts, prompts), max(map(len, ids))), [tuple(label) for label in ids]


def along_tree(labels: Sequence[Stem], count: int, shares: Callable[[Stem, list[int]], torch.Tensor]) -> torch.Tensor:
    """Return the probability of each label after each of ``count`` prompts, shape (prompts, labels).

    Args:
        labels: their tokens, which form a tree.
        count: how many prompts there are.
        shares: for a stem and the tokens that may follow it, how these share the probability after each prompt, shape
            (prompts, tokens); rows sum to 1.
    """
    result = torch.ones(count, len(labels))
    for stem in sorted({label[:n] for label in labels for n in range(len(label))}):
        children = sorted({label[len(stem)] for label in labels if label[: len(stem)] == stem and label != stem})
        if len(children) < 2:
            continue  # only one continuation: it has probability 1
        share = shares(stem, children)
        for column, label in enumerate(labels):
            if label[: len(stem)] == stem and label != stem:
                result[:, column] *= share[:, children.index(label[len(stem)])]
    return result


def _replies(model: Model, labels: Sequence[str]) -> list[list[int]]:
    """Return the ids of each label as a reply in the model's chat template, with those that end it."""
    question = {"role": "user", "content": "Which?"}
    rows = [masked(model.tokenizer, [question, {"role": "assistant", "content": label.strip()}]) for label in labels]
    return [[token for token, learned in zip(row.ids, row.learned, strict=True) if learned] for row in rows]


def require_distinct(model: Model, labels: Sequence[str], rows: Sequence[list[int]]) -> None:
    """Raise a ``LabkitError`` if a model cannot tell the labels apart by their token ids, ``rows``."""
    if blank := [label for label in labels if not label.strip()]:
        raise LabkitError(f"A label is empty: {blank[0]!r}.", "Name each class with a word.")
    for i, j in permutations(range(len(rows)), 2):
        if rows[i] == rows[j]:
            raise LabkitError(
                f"The tokenizer of {model.name} reads the labels {labels[i]!r} and {labels[j]!r} alike.",
                "Choose labels that differ by more than case or white space.",
            )
        if rows[i] == rows[j][: len(rows[i])]:
            raise LabkitError(
                f"The label {labels[i]!r} is the beginning of {labels[j]!r}, and the tokenizer of {model.name} has no "
                "token that ends a label.",
                "Choose labels such that none begins another, or set the tokenizer's eos_token.",
            )


def _next_logits(model: Model, tokens: list[int], part: Part) -> torch.Tensor:
    """Return the logits of ``tokens`` after each example, shape (examples, tokens)."""
    columns, position = torch.unique(part.attention_mask.sum(dim=1) - 1, return_inverse=True)
    logits = logits_at(model, part, columns)
    return logits[torch.arange(len(part.rows)), position][:, tokens].float()


def _classes(model: Model, head: nn.Linear, part: Part) -> torch.Tensor:
    return head(sentence_vectors(model, part)).float()
