"""Measure what each way to bring an adapter into weights changes: the predictions, and the answers to the task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.comparisons.export_measures import Live
from labkit.comparisons.roundings import WAYS
from labkit.comparisons.settings import SHORT, over_seeds
from labkit.evaluation import evaluate, logit_difference
from labkit.evaluation.labels import tested_prompts
from labkit.models.model import Model
from labkit.tasks.task import Task

PROMPTS = 40  # whose logits are compared


def rounding() -> Iterator[dict[str, Any]]:
    """One LoRA and one QLoRA on the causal model, each as it is and brought into weights in every way."""
    for base, ways in WAYS.items():
        for way in ways:
            yield from over_seeds(SHORT | {"data": {"base": base, "way": way}}, {"name": base}, 1e-3, seeds=(0,))


def rounding_measured(live: Live, original: Model, task: Task, *, base: str, way: str) -> dict[str, Any]:
    """Bring the adapter into weights in a certain way, and return what that changes.

    Args:
        live: the run.
        original: the model that it started from, as loaded.
        task: what it was trained on.
        base: "lora" or "qlora": what the adapter was trained beside.
        way: a name in ``WAYS[base]``.

    Returns a dictionary of:
        correct, total, hits: on the test set, computed in the precision of the model that the way makes.
        same: on how many examples the label is the live model's.
        largest, kl, agreement, positions: how far the predictions are from the live model's, both computed in float32
            so that only weights count: see ``LogitDifference``.
        trained_parameters, seconds: of the training.
    """
    tuned = live.run.model
    made = WAYS[base][way](tuned, original)
    score = live.evaluation if made is tuned else evaluate(made, task)
    difference = logit_difference(tuned, made, tested_prompts(tuned, task)[:PROMPTS])
    return {
        "correct": score.correct,
        "total": score.total,
        "hits": score.hits,
        "same": live.same(score),
        "largest": difference.largest,
        "kl": difference.kl,
        "agreement": difference.agreement,
        "positions": difference.positions,
        "trained_parameters": live.run.trained_parameters,
        "seconds": round(live.seconds, 2),
    }
