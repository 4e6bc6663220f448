"""Which of a task's labels a model finds likeliest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from labkit.assets.context import longest_of
from labkit.assets.models import Model
from labkit.assets.tasks import Task
from labkit.errors import LabkitError, require_count
from labkit.evaluation.results import Evaluation, wilson
from labkit.evaluation.sorting import parts, restore
from labkit.methods.adapter import adapters_of
from labkit.methods.virtual_tokens import VirtualTokens
from labkit.training.batching import Example, collate, encode
from labkit.training.objectives import logits_at, sentence_vectors

ZERO_SHOT_SCALE = 20.0  # cosine similarities lie close together; this spreads them before the softmax


def evaluate(model: Model, task: Task, *, batch_size: int = 32) -> Evaluation:
    """Ask for each test example which of the task's labels the model finds likeliest.

    Raises:
        LabkitError: the task has no fixed labels; measure ``perplexity`` instead.
    """
    if not task.labels:
        raise LabkitError(
            f"{task.name} has free completions and no labels to choose among.",
            "Use lk.perplexity(model, task), which works for any text.",
        )
    scores = label_probabilities(model, task.test["prompt"], task.labels, batch_size=batch_size)
    predicted = [task.labels[i] for i in scores.argmax(dim=1).tolist()]
    truth = list(task.test["completion"])
    hits = [p == t for p, t in zip(predicted, truth, strict=True)]
    per_class = {
        label.strip(): (sum(h for h, t in zip(hits, truth, strict=True) if t == label), truth.count(label))
        for label in task.labels
        if label in truth
    }
    names = [p.strip() for p in predicted]
    return Evaluation(sum(hits), len(hits), wilson(sum(hits), len(hits)), per_class, names)


@torch.no_grad()
def label_probabilities(
    model: Model, prompts: Sequence[str], labels: Sequence[str], *, batch_size: int = 32
) -> torch.Tensor:
    """Return the probability of each label after each prompt, shape (prompts, labels); rows sum to 1.

    A causal model reads the labels as a tree of tokens: where several labels go on differently, the
    probability is shared among those continuations, and all other tokens are ruled out. Labels that
    differ in their first token thus cost one forward pass. As in training, a label ends with the
    end-of-text token, which tells "red" from the beginning of "red wine". An encoder uses its trained
    head; without one, it compares the prompt's vector with the labels' (zero-shot).
    """
    batch_size = require_count("batch_size", batch_size)
    model.module.eval()
    prompts = list(prompts)
    if model.kind == "encoder":
        head = head_for(model, labels)
        examples = encode(model, prompts, prompts, min(512, room_of(model)))
        rows = [F.softmax(_classes(model, head, part), dim=-1) for part in parts(examples, batch_size)]
        return restore(torch.cat(rows), examples)
    end = () if model.tokenizer.eos_token_id is None else (model.tokenizer.eos_token_id,)
    tokens = [(*model.tokenizer(label, add_special_tokens=False)["input_ids"], *end) for label in labels]
    starts = model.tokenizer(prompts)["input_ids"]
    result = torch.ones(len(prompts), len(labels))
    for stem in sorted({label[:n] for label in tokens for n in range(len(label))}):
        children = sorted({label[len(stem)] for label in tokens if label[: len(stem)] == stem and label != stem})
        if len(children) < 2:
            continue  # only one way to go on: it has probability 1
        examples = [Example([*start, *stem], 0) for start in starts]
        logits = [_next_logits(model, part)[:, children] for part in parts(examples, batch_size)]
        share = F.softmax(restore(torch.cat(logits), examples), dim=-1)
        for column, label in enumerate(tokens):
            if label[: len(stem)] == stem and label != stem:
                result[:, column] *= share[:, children.index(label[len(stem)])]
    return result


def room_of(model: Model) -> int:
    """Return how many tokens of a text a model can read beside those that its adapter puts before it."""
    taken = sum(one.count for one in adapters_of(model).values() if isinstance(one, VirtualTokens))
    return longest_of(model.module.config) - taken


def head_for(model: Model, labels: Sequence[str]) -> nn.Linear:
    """Return an encoder's trained head, or the zero-shot one where there is none.

    Raises:
        LabkitError: the head was trained for another number of classes.
    """
    head = model.head or zero_shot_head(model, labels)
    if head.out_features != len(labels):
        raise LabkitError(
            f"{model.name} was fine-tuned to tell {head.out_features} classes apart; here there are {len(labels)}.",
            "Use the model as load_model gives it, or the task that it was fine-tuned on.",
        )
    return head


@torch.no_grad()
def zero_shot_head(model: Model, labels: Sequence[str]) -> nn.Linear:
    """Return a head whose rows are the labels' own vectors: a classifier before any training."""
    batch = collate(encode(model, labels, labels, 512), model.tokenizer.pad_token_id, model.device)
    with model.autocast():
        vectors = sentence_vectors(model, batch).float()
    head = nn.Linear(vectors.shape[1], len(labels), device=model.device)
    head.weight.copy_(ZERO_SHOT_SCALE * vectors)
    head.bias.zero_()
    return head


def _next_logits(model: Model, part: list[Example]) -> torch.Tensor:
    batch = collate(part, model.tokenizer.pad_token_id, model.device)
    ends = batch.attention_mask.sum(dim=1) - 1
    columns, position = torch.unique(ends, return_inverse=True)
    with model.autocast():
        logits = logits_at(model, batch, columns)
    return logits[torch.arange(len(part)), position].float().cpu()


def _classes(model: Model, head: nn.Linear, part: list[Example]) -> torch.Tensor:
    batch = collate(part, model.tokenizer.pad_token_id, model.device)
    with model.autocast():
        return head(sentence_vectors(model, batch)).float().cpu()
