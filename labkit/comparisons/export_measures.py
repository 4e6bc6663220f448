"""Measure what an exported model is worth in llama.cpp: its predictions, and its answers to the task."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from labkit.comparisons.settings import SHORT, over_seeds
from labkit.evaluation import evaluate
from labkit.evaluation.results import Evaluation
from labkit.experiment import finetune
from labkit.exports.faults import SCALE, plant
from labkit.exports.formats import FORMATS
from labkit.exports.gguf_formats import ADAPTER, file_of
from labkit.exports.gguf_model import KINDS, write_gguf
from labkit.exports.llama import LlamaCpp
from labkit.exports.llama_labels import evaluate_in_llama
from labkit.exports.llama_proof import measure, prove_gguf
from labkit.exports.subject import Subject
from labkit.methods import Method
from labkit.models.model import Model
from labkit.runs import Run
from labkit.tasks.task import Task

POSITIONS = 500
LIVE = "live"  # not exported


def exports() -> Iterator[dict[str, Any]]:
    """One LoRA on the causal model: as it is here, as each GGUF format, and as an adapter whose scale got lost."""
    formats = [LIVE, *(f"gguf-{kind}" for kind in KINDS), "gguf-adapter"]
    for format, fault in [*((format, "") for format in formats), ("gguf-adapter", SCALE)]:
        data = {"format": format, "fault": fault}
        yield from over_seeds(SHORT | {"data": data}, {"name": "lora"}, 1e-3, seeds=(0,))


@dataclass(frozen=True)
class Live:
    """A run before it is exported.

    Attributes:
        run: what was trained.
        seconds: of the training.
        evaluation: of the model as it is here, with its adapter beside the weights.
    """

    run: Run
    seconds: float
    evaluation: Evaluation

    @classmethod
    def of(cls, base: Model, task: Task, method: Method, settings: dict[str, Any]) -> Live:
        """Fine-tune and evaluate."""
        began = time.perf_counter()
        run = finetune(base, task, method, progress=False, **settings)
        return cls(run, time.perf_counter() - began, evaluate(run.model, task))

    def same(self, other: Evaluation) -> int:
        """Return on how many examples another evaluation has the label of this one."""
        return sum(a == b for a, b in zip(other.predictions, self.evaluation.predictions, strict=True))


def export_measured(live: Live, task: Task, format: str, fault: str = "") -> dict[str, Any]:
    """Export and return what llama.cpp makes of the files.

    Args:
        live: what is exported.
        task: what it was trained on.
        format: "live", or a GGUF format of ``lk.export``.
        fault: what is planted in the file afterwards, by its name in ``labkit.exports.FAULTS``; it isn't proved then.

    Returns a dictionary of:
        correct, total, hits: on the test set, by ``lk.evaluate``'s rule; computed by llama.cpp, or here by ``live``.
        same: on how many examples the label is the live model's.
        trained_parameters, seconds: of the training.
        file_bytes: size of what was exported, 0 if nothing was.
        proof: what ``GgufProof`` holds; empty if nothing was exported. Of a faulty file, what was measured.
    """
    score, size, proof = live.evaluation, 0, dict[str, Any]()
    if format != LIVE:
        with TemporaryDirectory() as scratch:
            llama, size, proof = _in_llama(Subject.of(live.run, POSITIONS), format, fault, Path(scratch))
            score = evaluate_in_llama(llama, live.run.model, task)
    return {
        "correct": score.correct,
        "total": score.total,
        "hits": score.hits,
        "same": live.same(score),
        "trained_parameters": live.run.trained_parameters,
        "seconds": round(live.seconds, 2),
        "file_bytes": size,
        "proof": proof,
    }


def _in_llama(subject: Subject, format: str, fault: str, folder: Path) -> tuple[LlamaCpp, int, dict[str, Any]]:
    """Export and prove; return the file in llama.cpp, its size, and what was measured."""
    FORMATS[format](subject, folder)
    adapter = folder / ADAPTER if format == "gguf-adapter" else None
    kind = "f16" if adapter else format.removeprefix("gguf-")
    path = folder / file_of(kind)
    if adapter:
        write_gguf(subject.bare(), path, kind)
    made = adapter or path
    if fault:
        made = plant(fault, made, folder / "damaged.gguf")
    llama = LlamaCpp(path, made) if adapter else LlamaCpp(made)
    if fault:
        proof = replace(measure(subject.reference, llama), kind=kind)
    else:
        proof = prove_gguf(subject.reference, path, kind, adapter)
    return llama, made.stat().st_size, asdict(proof)
