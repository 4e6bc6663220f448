"""Which of a task's labels a model finds likeliest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import permutations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from labkit.errors import LabkitError, require_count
from labkit.evaluation.results import Evaluation, wilson
from labkit.models.encoding import completion_ids, fit, padding_id, prompt_ids
from labkit.models.model import Model
from labkit.process import inference
from labkit.tasks.task import Task
from labkit.training.batching import Example, collate, read
from labkit.training.inference import Part, infer
from labkit.training.objectives import logits_at, sentence_vectors

ZERO_SHOT_SCALE = 20.0  # cosine similarities lie close together; this spreads them before the softmax


def evaluate(model: Model, task: Task, *, batch_size: int = 32) -> Evaluation:
    """Ask for each test example which of the task's labels the model finds likeliest.

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
        raise LabkitError(f"{task.name} has no test examples.", "Take a task that has some.")
    scores = label_probabilities(model, task.test["prompt"], task.labels, batch_size=batch_size)
    predicted = [task.labels[i] for i in scores.argmax(dim=1).tolist()]
    truth = list(task.test["completion"])
    hits = [p == t for p, t in zip(predicted, truth, strict=True)]
    names = {label: label.strip() for label in task.labels}
    if len(set(names.values())) < len(names):  # they differ by white space only
        names = {label: label for label in names}
    per_class = {
        names[label]: (sum(h for h, t in zip(hits, truth, strict=True) if t == label), truth.count(label))
        for label in task.labels
        if label in truth
    }
    return Evaluation(sum(hits), len(hits), wilson(sum(hits), len(hits)), per_class, [names[p] for p in predicted])


def label_probabilities(
    model: Model, prompts: Sequence[str], labels: Sequence[str], *, batch_size: int = 32
) -> torch.Tensor:
    """Return the probability of each label after each prompt, shape (prompts, labels); rows sum to 1.

    A causal model reads the labels as a tree of tokens: where several labels go on differently, the
    probability is shared among those continuations, and all other tokens are ruled out. Labels that
    differ in their first token thus cost one forward pass. As in training, a label ends with the
    end-of-text token, which tells "red" from the beginning of "red wine". An encoder uses its trained
    head; without one, it compares the prompt's vector with the labels' (zero-shot).

    A prompt that the model cannot read whole beside the longest label loses its beginning, and an encoder's loses its
    end; a ``TruncationWarning`` says how many do.

    Raises:
        LabkitError: there are no prompts or no labels, or labels that the model cannot tell apart.
    """
    batch_size = require_count("batch_size", batch_size)
    rows = prompt_ids(model, prompts)
    if not rows or not labels:
        raise LabkitError(f"{len(rows)} prompts and {len(labels)} labels leave nothing to ask.", "Pass some of each.")
    if model.kind == "encoder":
        if not model.head:
            require_distinct(model, labels, prompt_ids(model, labels))
        head = head_for(model, labels)
        examples = [Example(ids, 0) for ids in fit(model, rows, model.max_length, "prompt")]
        return F.softmax(infer(model, examples, batch_size, partial(_classes, model, head)), dim=-1)
    ids_of_labels = completion_ids(model, labels)
    require_distinct(model, labels, ids_of_labels)
    tokens = [tuple(ids) for ids in ids_of_labels]
    starts = fit(model, rows, model.max_length - max(map(len, tokens)), "prompt")
    result = torch.ones(len(rows), len(labels))
    for stem in sorted({label[:n] for label in tokens for n in range(len(label))}):
        children = sorted({label[len(stem)] for label in tokens if label[: len(stem)] == stem and label != stem})
        if len(children) < 2:
            continue  # only one way to go on: it has probability 1
        examples = [Example([*start, *stem], 0) for start in starts]
        share = F.softmax(infer(model, examples, batch_size, partial(_next_logits, model, children)), dim=-1)
        for column, label in enumerate(tokens):
            if label[: len(stem)] == stem and label != stem:
                result[:, column] *= share[:, children.index(label[len(stem)])]
    return result


def require_distinct(model: Model, labels: Sequence[str], rows: Sequence[list[int]]) -> None:
    """Raise a ``LabkitError`` where labels, of which ``rows`` are the token ids, cannot be told apart."""
    if blank := [label for label in labels if not label.strip()]:
        raise LabkitError(f"A label is empty: {blank[0]!r}.", "Name each class by a word.")
    for i, j in permutations(range(len(rows)), 2):
        if rows[i] == rows[j]:
            raise LabkitError(
                f"The tokenizer of {model.name} reads the labels {labels[i]!r} and {labels[j]!r} alike.",
                "Choose labels that differ by more than case or white space.",
            )
        if rows[i] == rows[j][: len(rows[i])]:
            raise LabkitError(
                f"The label {labels[i]!r} is the beginning of {labels[j]!r}, and the tokenizer of {model.name} has no "
                "token that ends it.",
                "Choose labels of which none begins another, or set the tokenizer's eos_token.",
            )


def head_for(model: Model, labels: Sequence[str]) -> nn.Linear:
    """Return an encoder's trained head, or the zero-shot one where there is none.

    Its rows are in the order of ``labels``: where a head was trained on the same classes in another order, a head
    with its rows in this order is returned.

    Raises:
        LabkitError: the head was trained for other classes.
    """
    head = model.head or zero_shot_head(model, labels)
    remedy = "Use the model as load_model gives it, or the task that it was fine-tuned on."
    if head.out_features != len(labels):
        raise LabkitError(
            f"{model.name} was fine-tuned to tell {head.out_features} classes apart; here there are {len(labels)}.",
            remedy,
        )
    theirs, ours = list(model.labels), list(labels)
    if model.head is None or not theirs or theirs == ours:  # a head of one's own making may have no labels
        return head
    if set(theirs) != set(ours):
        theirs, ours = ([label.strip() for label in each] for each in (theirs, ours))
    if set(theirs) != set(ours) or len(set(ours)) < len(ours):
        raise LabkitError(
            f"{model.name} was fine-tuned to tell {', '.join(theirs)} apart; here the labels are {', '.join(ours)}.",
            remedy,
        )
    sorted_head = nn.Linear(head.in_features, len(ours), device=head.weight.device)
    order = [theirs.index(label) for label in ours]
    with torch.no_grad():
        sorted_head.weight.copy_(head.weight[order])
        sorted_head.bias.copy_(head.bias[order])
    return sorted_head


def zero_shot_head(model: Model, labels: Sequence[str]) -> nn.Linear:
    """Return a head whose rows are the labels' own vectors: a classifier before any training."""
    batch = collate(read(model, labels, what="label"), padding_id(model), model.device)
    with inference(model):
        vectors = sentence_vectors(model, batch).float()
    head = skip_init(nn.Linear, vectors.shape[1], len(labels), device=model.device)
    with torch.no_grad():
        head.weight.copy_(ZERO_SHOT_SCALE * vectors)
        head.bias.zero_()
    return head


def _next_logits(model: Model, tokens: list[int], part: Part) -> torch.Tensor:
    """Return the logits of some tokens after each example."""
    columns, position = torch.unique(part.attention_mask.sum(dim=1) - 1, return_inverse=True)
    logits = logits_at(model, part, columns)
    return logits[torch.arange(len(part.rows)), position][:, tokens].float()


def _classes(model: Model, head: nn.Linear, part: Part) -> torch.Tensor:
    return head(sentence_vectors(model, part)).float()
