"""How good a model is at a task, and what it has forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

from labkit.assets.english import general_english, general_knowledge
from labkit.assets.models import Model
from labkit.assets.tasks import Task
from labkit.errors import LabkitError
from labkit.training.batching import Example, collate, encode, encode_text
from labkit.training.objectives import completion_loss, logits_at, sentence_vectors

ZERO_SHOT_SCALE = 20.0  # cosine similarities lie close together; this spreads them before the softmax


@dataclass(frozen=True)
class Evaluation:
    """Accuracy on a test set.

    Attributes:
        correct, total: counts.
        interval: 95% interval of the accuracy (Wilson, 1927), as fractions.
        per_class: label → (correct, total).
        predictions: the predicted label of each test example.
    """

    correct: int
    total: int
    interval: tuple[float, float]
    per_class: dict[str, tuple[int, int]]
    predictions: list[str] = field(repr=False)

    @property
    def accuracy(self) -> float:
        """The share of right answers, 0 to 1."""
        return self.correct / self.total

    def __str__(self) -> str:
        low, high = self.interval
        lines = [f"accuracy {self.accuracy:.1%}   95% interval {low:.1%} to {high:.1%}   n = {self.total}"]
        width = max(len(label) for label in self.per_class)
        for label, (right, total) in self.per_class.items():
            bar = "█" * round(20 * right / total)
            lines.append(f"  {label:<{width}}  {right:>3} of {total:<3} {bar}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Forgetting:
    """What fine-tuning cost in general English.

    Attributes:
        before, after: mean loss on general English in nats a token.
        rise: after − before; e^rise is the factor by which perplexity grew.
    """

    before: float
    after: float

    @property
    def rise(self) -> float:
        """How much the loss rose, in nats a token."""
        return self.after - self.before


def wilson(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a share, as fractions (Wilson, 1927, JASA 22, 209–212)."""
    share, spread = correct / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


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
    model.module.eval()
    prompts = list(prompts)
    if model.kind == "encoder":
        head = head_for(model, labels)
        examples = encode(model, prompts, prompts, 512)
        rows = [F.softmax(_classes(model, head, part), dim=-1) for part in _parts(examples, batch_size)]
        return _restore(torch.cat(rows), examples)
    end = () if model.tokenizer.eos_token_id is None else (model.tokenizer.eos_token_id,)
    tokens = [(*model.tokenizer(label, add_special_tokens=False)["input_ids"], *end) for label in labels]
    starts = model.tokenizer(prompts)["input_ids"]
    result = torch.ones(len(prompts), len(labels))
    for stem in sorted({label[:n] for label in tokens for n in range(len(label))}):
        children = sorted({label[len(stem)] for label in tokens if label[: len(stem)] == stem and label != stem})
        if len(children) < 2:
            continue  # only one way to go on: it has probability 1
        examples = [Example([*start, *stem], 0) for start in starts]
        logits = [_next_logits(model, part)[:, children] for part in _parts(examples, batch_size)]
        share = F.softmax(_restore(torch.cat(logits), examples), dim=-1)
        for column, label in enumerate(tokens):
            if label[: len(stem)] == stem and label != stem:
                result[:, column] *= share[:, children.index(label[len(stem)])]
    return result


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


@torch.no_grad()
def text_loss(model: Model, data: Task | Sequence[str], *, batch_size: int = 16, max_length: int = 512) -> float:
    """Return the mean loss in nats a token, over texts or over the completions of a task's test set."""
    _require_causal(model)
    model.module.eval()
    if isinstance(data, Task):
        examples = encode(model, data.test["prompt"], data.test["completion"], max_length)
    else:
        examples = encode_text(model, data, max_length)
    total, count = 0.0, 0
    for part in _parts(examples, batch_size):
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
        for part in _parts(examples, 32):
            with model.autocast():
                losses.append(_loss_each(model, part))
    best = _restore(torch.cat(losses), examples).view(len(questions), -1).argmin(dim=1).tolist()
    predicted = [q["choices"][i] for q, i in zip(questions, best, strict=True)]
    hits = [p == q["answer"] for p, q in zip(predicted, questions, strict=True)]
    topics = dict.fromkeys(q["topic"] for q in questions)
    of_topic = {t: [h for h, q in zip(hits, questions, strict=True) if q["topic"] == t] for t in topics}
    per_class = {topic: (sum(group), len(group)) for topic, group in of_topic.items()}
    return Evaluation(sum(hits), len(hits), wilson(sum(hits), len(hits)), per_class, predicted)


def _require_causal(model: Model) -> None:
    if model.kind != "causal":
        raise LabkitError(f"{model.name} is an encoder, which predicts no tokens.", "Use a causal model.")


def _parts(examples: list[Example], size: int) -> list[list[Example]]:
    ordered = sorted(examples, key=lambda e: len(e.tokens))  # like lengths together: little padding
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def _restore(rows: torch.Tensor, examples: list[Example]) -> torch.Tensor:
    """Undo the sorting of ``_parts``."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].tokens))
    result = torch.empty_like(rows)
    result[order] = rows
    return result


def _next_logits(model: Model, part: list[Example]) -> torch.Tensor:
    batch = collate(part, model.tokenizer.pad_token_id, model.device)
    ends = batch.attention_mask.sum(dim=1) - 1
    columns, position = torch.unique(ends, return_inverse=True)
    with model.autocast():
        logits = logits_at(model, batch, columns)
    return logits[torch.arange(len(part)), position].float().cpu()


def _loss_each(model: Model, part: list[Example]) -> torch.Tensor:
    batch = collate(part, model.tokenizer.pad_token_id, model.device)
    logits = model.module(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits[
        :, :-1
    ]
    losses = F.cross_entropy(logits.float().transpose(1, 2), batch.targets[:, 1:], reduction="none")
    return losses.sum(dim=1).cpu()


def _classes(model: Model, head: nn.Linear, part: list[Example]) -> torch.Tensor:
    batch = collate(part, model.tokenizer.pad_token_id, model.device)
    with model.autocast():
        return head(sentence_vectors(model, batch)).float().cpu()
