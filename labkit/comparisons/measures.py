"""Measure what one fine-tuning run gains and costs, for a table that compares methods."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from labkit.evaluation import drift, evaluate, latency_ratio, text_loss
from labkit.experiment import finetune, predict_memory
from labkit.methods import Method, merge
from labkit.methods.adapter import adapters_of
from labkit.methods.merging import MergeableLinear
from labkit.models.model import Model
from labkit.models.precision import store_linear_weights
from labkit.quant.layers import is_4bit
from labkit.runs import Run
from labkit.tasks.english import general_english
from labkit.tasks.task import Task
from labkit.training.head import save_head
from labkit.training.loop import TrainingDivergedError


@dataclass
class Clock:
    """A callback that takes the time of each step.

    This is processor time, which other programs don't lengthen; the times of several threads add up.
    """

    rates: list[float] = field(default_factory=list)
    last: float = field(default_factory=time.process_time)

    def __call__(self, model: Model, record: dict[str, Any], last: bool) -> None:
        """Record how many tokens per second the step learned from."""
        now = time.process_time()
        if now > self.last:  # Windows' clock stands still for 16 ms
            self.rates.append(record["tokens"] / (now - self.last))
        self.last = now


def measured(
    base: Model,
    task: Task,
    method: Method,
    settings: dict[str, Any],
    english: float | None = None,
    *,
    costs: bool = True,
) -> dict[str, Any]:
    """Fine-tune and return what was gained and what it cost.

    ``english`` is the base model's ``text_loss`` on general English, to measure forgetting. ``costs=False`` leaves out
    what the training data don't change and what takes seconds, marked by *.

    Returns a dictionary of:
        correct, total, hits: right answers, size of the test set, and a 1 or 0 for each right or wrong answer.
        diverged: whether training stopped early because the learning rate was too high.
        trained_parameters: numbers trained.
        peak_bytes: peak memory of a step.
        parameter_bytes: memory of the parameters at that peak.
        seconds: of training, by the clock.
        tokens_per_second: tokens, without padding, that a step learned from in a second of processor time (median).
        loss_rise: forgetting; None without ``english``, or if it isn't finite.
        adapter_bytes*: size of the files that hold what was trained.
        predicted_bytes*: the peak memory that was predicted.
        drift*: how far an encoder's vectors of general English moved; None for a causal model, or if not finite.
        latency*: time for one text, as a multiple of the base model's.
        merged_latency*: the same after merging into weights that are stored like the base's; None if that's impossible.
    """
    clock = Clock()
    began = time.perf_counter()
    try:
        run, diverged = finetune(base, task, method, progress=False, callbacks=[clock], **settings), False
    except TrainingDivergedError as stop:  # a result as well: this rate is too high
        run, diverged = stop.run, True
    seconds = time.perf_counter() - began
    score = evaluate(run.model, task)
    found = {
        "correct": score.correct,
        "total": score.total,
        "hits": score.hits,
        "diverged": diverged,
        "trained_parameters": run.trained_parameters,
        "peak_bytes": run.memory and run.memory.peak,
        "parameter_bytes": run.memory and run.memory.parameters,
        "seconds": round(seconds, 2),
        "tokens_per_second": round(median(clock.rates), 1) if clock.rates else None,
        "loss_rise": None if english is None else _finite(text_loss(run.model, general_english()) - english),
    }
    if not costs:
        return found
    prompt, merged = task.test["prompt"][0], _merged(run.model)
    return found | {
        "adapter_bytes": _saved_bytes(run),
        "predicted_bytes": predict_memory(base, task, method, **settings).peak,
        "drift": _finite(drift(base, run.model)) if base.kind == "encoder" else None,
        "latency": round(latency_ratio(base, run.model, prompt), 3),
        "merged_latency": round(latency_ratio(base, merged, prompt), 3) if merged else None,
    }


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _saved_bytes(run: Run) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run.method.save(run.model, folder)
        save_head(run.model, folder)
        return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def _merged(model: Model) -> Model | None:
    layers = adapters_of(model).values()
    if not all(isinstance(layer, MergeableLinear) and not is_4bit(layer.base) for layer in layers):
        return None
    merged = merge(model) if layers else model.copy(share_weights=False)
    store_linear_weights(merged.module, model.precision)
    return merged
