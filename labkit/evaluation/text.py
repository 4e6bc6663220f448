"""How well a model predicts text, and what it has forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from labkit.assets.english import general_english, general_knowledge
from labkit.assets.models import Model
from labkit.assets.tasks import Task
from labkit.errors import LabkitError, require_count
from labkit.evaluation.results import Evaluation, Forgetting, wilson
from labkit.evaluation.sorting import parts, restore
from labkit.training.batching import Example, collate, encode, encode_text
from labkit.training.objectives import completion_loss


@torch.no_grad()
def text_loss(model: Model, data: Task | Sequence[str], *, batch_size: int = 16, max_length: int = 512) -> float:
    """Return the mean loss in nats a token, over texts or over the completions of a task's test set."""
    _require_causal(model)
    batch_size = require_count("batch_size", batch_size)
    max_length = require_count("max_length", max_length, low=2)
    model.module.eval()
    if isinstance(data, Task):
        examples = encode(model, data.test["prompt"], data.test["completion"], max_length)
    else:
        examples = encode_text(model, data, max_length)
    total, count = 0.0, 0
    for part in parts(examples, batch_size):
        with model.autocast():
            loss, learned = completion_loss(model, collate(part, model.tokenizer.pad_token_id, model.device))
        total, count = total + loss.item(), count + learned
    if not count:
        raise LabkitError("There is no text to measure the loss on.", "Pass at least one text of two tokens.")
    return total / count


def perplexity(model: Model, data: Task | Sequence[str], *, batch_size: int = 16) -> float:
    """Return e to the mean loss a token: among how many equally likely tokens the model hesitates."""
    return math.exp(text_loss(model, data, batch_size=batch_size))


def forgetting(before: Model, after: Model, texts: Sequence[str] | None = None) -> Forgetting:
    """Measure how much a model's loss on general English rose; see ``labkit.assets.english`` for the text."""
    texts = general_english() if texts is None else texts
    return Forgetting(text_loss(before, texts), text_loss(after, texts))


def knowledge(model: Model) -> Evaluation:
    """Ask the 60 general-knowledge questions; the likeliest of the four choices is the model's answer.

    The end-of-text token is no part of a choice: whether a model stops after a short answer is a
    matter of form, which fine-tuning changes at once, and would drown what is asked here.
    """
    _require_causal(model)
    questions = general_knowledge()
    prompts = [f"Question: {q['question']}\nAnswer:" for q in questions for _ in q["choices"]]
    choices = [f" {choice}" for q in questions for choice in q["choices"]]
    encoded = encode(model, prompts, choices, 512)
    examples = [Example(e.tokens[:-1], e.learned - 1) for e in encoded]
    losses = []
    model.module.eval()
    with torch.no_grad():
        for part in parts(examples, 32):
            with model.autocast():
                losses.append(_loss_each(model, part))
    best = restore(torch.cat(losses), examples).view(len(questions), -1).argmin(dim=1).tolist()
    predicted = [q["choices"][i] for q, i in zip(questions, best, strict=True)]
    hits = [p == q["answer"] for p, q in zip(predicted, questions, strict=True)]
    topics = dict.fromkeys(q["topic"] for q in questions)
    of_topic = {t: [h for h, q in zip(hits, questions, strict=True) if q["topic"] == t] for t in topics}
    per_class = {topic: (sum(group), len(group)) for topic, group in of_topic.items()}
    return Evaluation(sum(hits), len(hits), wilson(sum(hits), len(hits)), per_class, predicted)


def _require_causal(model: Model) -> None:
    if model.kind != "causal":
        raise LabkitError(f"{model.name} is an encoder, which predicts no tokens.", "Use a causal model.")


def _loss_each(model: Model, part: list[Example]) -> torch.Tensor:
    batch = collate(part, model.tokenizer.pad_token_id, model.device)
    logits = model.module(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits[
        :, :-1
    ]
    losses = F.cross_entropy(logits.float().transpose(1, 2), batch.targets[:, 1:], reduction="none")
    return losses.sum(dim=1).cpu()
