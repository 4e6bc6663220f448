"""How well a causal model predicts text, and how much it has forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch.nn import functional as F

from labkit.errors import LabkitError, require_count
from labkit.evaluation.results import Evaluation, Forgetting, score
from labkit.models.context import MAX_LENGTH
from labkit.models.encoding import completion_ids, prompt_ids
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model
from labkit.models.truncation import fit
from labkit.tasks.english import general_english, general_knowledge
from labkit.tasks.task import Task
from labkit.training.batching import Example
from labkit.training.inference import Part, batches_of, infer
from labkit.training.objectives import completion_loss
from labkit.training.sft import encode_conversations, has_conversations
from labkit.training.windows import encode_text, windows


def text_loss(
    model: Model,
    data: Task | Sequence[str] | Sequence[list[dict]],
    *,
    batch_size: int = 16,
    max_length: int = MAX_LENGTH,
) -> float:
    """Return the mean loss in nats per token, over texts, a task's test completions, or the last replies of chats.

    The whole text counts, however long it is: each token except a text's first is predicted once, from at most
    ``max_length`` tokens before it; see ``labkit.training.windows``. If that cuts off the beginning of some of a
    task's prompts, a ``TruncationWarning`` says how many.

    Args:
        model: a causal model.
        data: texts, a task, or conversations (lists of messages), which lose their oldest turns if they are too long.
            A task with a column ``messages`` is one of conversations.
        batch_size: texts in a forward pass.
        max_length: tokens that are read at once, at most as many as the model can read.

    Raises:
        LabkitError: the model is an encoder, or there are no tokens to predict.
    """
    _require_causal(model)
    batch_size = require_count("batch_size", batch_size)
    max_length = require_count("max_length", max_length, low=2)
    if isinstance(data, Task) and has_conversations(model, data):
        examples = encode_conversations(model, data.test["messages"], max_length)
    elif isinstance(data, Task):
        prompts, rest = prompt_ids(model, data.test["prompt"]), completion_ids(model, data.test["completion"])
        whole = [start + ids for start, ids in zip(prompts, rest, strict=True)]
        examples = windows(model, whole, [len(ids) for ids in rest], max_length)
    elif data and not any(isinstance(each, str) for each in data):
        examples = encode_conversations(model, data, max_length)
    else:
        examples = encode_text(model, cast(Sequence[str], data), max_length)
    total, count = 0.0, 0
    with inference(model):
        for part in batches_of(model, examples, batch_size):
            loss, learned = completion_loss(model, part)
            total, count = total + loss.item(), count + learned
    if not count:
        raise LabkitError("There is no text to measure the loss on.", "Pass at least one text of two tokens.")
    return total / count


def perplexity(
    model: Model,
    data: Task | Sequence[str] | Sequence[list[dict]],
    *,
    batch_size: int = 16,
    max_length: int = MAX_LENGTH,
) -> float:
    """Return e to the power of the mean loss per token: the number of equally likely tokens that would be as uncertain.

    Takes the arguments of ``text_loss``, and raises the same errors.
    """
    return math.exp(text_loss(model, data, batch_size=batch_size, max_length=max_length))


def forgetting(before: Model, after: Model, texts: Sequence[str] | Sequence[list[dict]] | None = None) -> Forgetting:
    """Measure how much a model's loss rose: on general English (``labkit.tasks.english``), texts or conversations."""
    texts = general_english() if texts is None else texts
    return Forgetting(text_loss(before, texts), text_loss(after, texts))


def knowledge(model: Model) -> Evaluation:
    """Ask the 60 general-knowledge questions; the likeliest of the four choices is the model's answer.

    The end-of-text token is not part of a choice: whether a model stops after a short answer is a
    matter of form, which fine-tuning changes at once; it would hide what the model knows.
    """
    _require_causal(model)
    questions = general_knowledge()
    prompts = [f"Question: {q['question']}\nAnswer:" for q in questions for _ in q["choices"]]
    choices = [f" {choice}" for q in questions for choice in q["choices"]]
    rest = completion_ids(model, choices, end=False)
    starts = fit(model, prompt_ids(model, prompts), model.max_length - max(map(len, rest)), "question")
    examples = [Example(start + ids, len(ids)) for start, ids in zip(starts, rest, strict=True)]
    losses = infer(model, examples, 32, partial(_loss_each, model))
    best = losses.view(len(questions), -1).argmin(dim=1).tolist()
    predicted = [q["choices"][i] for q, i in zip(questions, best, strict=True)]
    hits = [p == q["answer"] for p, q in zip(predicted, questions, strict=True)]
    topics = [q["topic"] for q in questions]
    return score(hits, topics, list(dict.fromkeys(topics)), predicted)


def _require_causal(model: Model) -> None:
    if model.kind != "causal":
        raise LabkitError(f"{model.name} is an encoder, which predicts no tokens.", "Use a causal model.")


def _loss_each(model: Model, part: Part) -> torch.Tensor:
    logits = model.module(input_ids=part.input_ids, attention_mask=part.attention_mask, use_cache=False).logits
    losses = F.cross_entropy(logits[:, :-1].float().transpose(1, 2), part.targets[:, 1:], reduction="none")
    return losses.sum(dim=1)
