"""Compare predicted and measured memory on a card: every method on 1 to 3 billion parameters, QLoRA on 65 billion."""

from __future__ import annotations

import itertools
import math
import statistics
from concurrent.futures import Future
from dataclasses import replace

import torch
from gpu_models import Bench, Skipped, config_of, examples_of, measure, predict, random_model, release

import labkit as lk
from labkit.memory import KINDS
from labkit.methods import METHODS, Method, get_method
from labkit.planning import Step, predict_step, sizes
from labkit.planning.allocator import CONTEXT
from labkit.planning.fit import free_memory
from labkit.quant.layers import is_4bit
from labkit.training.loop import Trainer

SAVING = ("full", "lora", "qlora")  # methods that are measured with gradient checkpointing as well


def methods() -> dict[str, Method]:
    """Return every method with its defaults, the two backends of QLoRA, and DoRA."""
    found = {name: get_method(name) for name in METHODS}
    # Random weights come without a tokenizer, so virtual tokens have no words to start from.
    found = {name: replace(m, init="random") if hasattr(m, "virtual_tokens") else m for name, m in found.items()}
    return found | {"qlora, labkit's layers": lk.QLoRA(backend="labkit"), "dora": lk.LoRA(variant="dora")}


def cases(bench: Bench) -> list[tuple]:
    """Return (shape, precision, method, checkpointing, (examples, length, how much shorter each))."""
    if bench.dry:
        return [("tiny", bench.precision, name, False, (2, 24, 5)) for name in methods()] + [
            ("tiny", bench.precision, "lora", True, (2, 24, 0))
        ]
    shapes = ("llama-3.2-1b", "smollm2-1.7b", "llama-3.2-3b")
    made = []
    for shape, name in itertools.product(shapes, methods()):
        made.append((shape, bench.precision, name, False, (4, 512, 40)))
        if name in SAVING:
            made.append((shape, bench.precision, name, True, (4, 512, 0)))
    return made + [(shapes[0], torch.float32, name, False, (4, 512, 0)) for name in SAVING]


def step_of_case(case: tuple) -> Step:
    """Return what labkit needs to predict a case."""
    shape, precision, name, saving, (count, length, shorter) = case
    config = config_of(shape)
    training = lk.TrainingConfig(
        steps=2, batch_size=count, max_length=length, gradient_checkpointing=saving, learning_rate=1e-4
    )
    return Step(config, methods()[name], training, examples_of(count, length, shorter, config.vocab_size), precision)


def memory_error(bench: Bench, found: dict) -> None:
    """Measure and predict every case. If one fails, the others are still measured."""
    found |= {"rows": [], "skipped": [], "failed": []}
    planned = cases(bench)
    steps = [step_of_case(case) for case in planned]
    predictions = [bench.pool.submit(predict, step) for step in steps]
    slowest = 0.0
    for case, step, prediction in zip(planned, steps, predictions, strict=True):
        shape, precision, name, saving, batch = case
        row = {"model": shape, "precision": _short(precision), "method": name, "checkpointing": saving, "batch": batch}
        before = bench.left
        try:
            if before < slowest:
                raise Skipped("no time left")
            row |= _row(bench, step, prediction)
        except (Skipped, lk.LabkitError) as reason:
            prediction.cancel()
            found["skipped"].append(row | {"why": str(reason).splitlines()[0]})
        except Exception as problem:
            found["failed"].append(row | {"error": f"{type(problem).__name__}: {problem}"})
        else:
            found["rows"].append(row)
        slowest = max(slowest, before - bench.left)
        release(bench.device)
        bench.save()
    for what in ("allocated", "reserved"):
        errors = [row[f"{what}_error"] for row in found["rows"] if row[f"{what}_error"] is not None]
        if errors:
            found[f"{what}_worst"] = max(errors, key=abs)
            found[f"{what}_median"] = statistics.median(map(abs, errors))
    if found["failed"]:
        raise RuntimeError(f"{len(found['failed'])} of {len(planned)} cases failed; {found['failed'][0]['error']}")
    if not found["rows"]:
        raise Skipped(f"all {len(planned)} cases were skipped: {found['skipped'][0]['why']}")


def _row(bench: Bench, step: Step, prediction: Future) -> dict:
    """Return what was measured and predicted for a step."""
    expected = _ready(bench, prediction)
    _require_room(bench, expected["reserved"])
    model = random_model(step.config, step.precision, bench.device)
    return compared(bench, measure(model, step.method, step.training, step.examples), expected)


def compared(bench: Bench, measured: dict, expected: dict) -> dict:
    """Return measurement and prediction in one row, with the error of the prediction as a share."""
    row = dict(measured) | {"simulated": expected["simulated"]}
    for what, guess in (("allocated", "allocated" if bench.cuda else "tensors"), ("reserved", "reserved")):
        row[f"{what}_predicted"] = expected[guess]
        row[f"{what}_error"] = expected[guess] / measured[what] - 1 if measured[what] else None
    return row


def _ready(bench: Bench, prediction: Future) -> dict:
    try:
        return prediction.result(timeout=max(1, bench.left) if math.isfinite(bench.left) else None)
    except TimeoutError:
        raise Skipped("the prediction took longer than there was time") from None


def _require_room(bench: Bench, needed: int) -> None:
    if bench.cuda and needed > (free := free_memory(bench.device)):
        raise Skipped(f"it needs {sizes.readable(needed)}, and {sizes.readable(free)} is free")


def _short(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")


def ledger(bench: Bench, found: dict) -> None:
    """Run labkit's loop as ``finetune`` does, and compare by kind what its ledger recorded with what was predicted."""
    config = config_of("tiny" if bench.dry else "llama-3.2-1b")
    examples = examples_of(2, 24 if bench.dry else 256, vocabulary=config.vocab_size)
    training = lk.TrainingConfig(steps=3, batch_size=2)
    prediction = predict_step(Step(config, lk.LoRA(), training, examples, bench.precision)).on(bench.device)
    model = lk.LoRA().apply(random_model(config, bench.precision, bench.device), inplace=True)
    release(bench.device)
    trainer = Trainer(model, examples, training)
    trainer.run()
    if trainer.memory is None:
        raise RuntimeError("torch's profiler recorded no memory: a run here would have no report")
    for name, report in (("measured", trainer.memory), ("expected", prediction)):
        found[name] = {kind: getattr(report, kind) for kind in KINDS} | {"peak": report.peak}
    found["allocated_worst"] = prediction.peak / trainer.memory.peak - 1


# 65 billion parameters


def step_65b(bench: Bench, rank: int) -> Step:
    """Return the step that QLoRA's paper made possible on one card of 48 GB."""
    config = config_of("tiny" if bench.dry else "llama-65b")
    length = 24 if bench.dry else 512
    training = lk.TrainingConfig(
        steps=2, batch_size=1, max_length=length, gradient_checkpointing=True, warmup=0.0, learning_rate=1e-4
    )
    method = lk.QLoRA(rank=rank, backend="labkit")
    return Step(config, method, training, examples_of(1, length, vocabulary=config.vocab_size), bench.precision)


def submit_65b(bench: Bench) -> dict[int, Future]:
    """Start the predictions. Each takes a processor a minute, because every chunk of every layer is simulated."""
    return {rank: bench.pool.submit(predict, step_65b(bench, rank)) for rank in ((8,) if bench.dry else (8, 64))}


def qlora_65b(bench: Bench, found: dict) -> None:
    """Make two real steps of QLoRA on a model of 65 billion parameters, in labkit's own 4-bit layers."""
    found |= {"steps": [], "skipped": []}
    predictions = bench.predictions_65b or submit_65b(bench)
    taken = 0.0
    for rank, prediction in predictions.items():
        before = bench.left
        try:
            if before < taken:
                raise Skipped("no time left")
            found["steps"].append({"rank": rank} | _step_65b(bench, step_65b(bench, rank), prediction))
        except Skipped as reason:
            found["skipped"].append({"rank": rank, "why": str(reason)})
        taken = before - bench.left
        release(bench.device)
        bench.save()
    if not found["steps"]:
        raise Skipped(found["skipped"][0]["why"])
    for step in found["steps"]:
        if not (math.isfinite(step["loss"]) and 0 < step["grad_norm"] < math.inf):
            raise RuntimeError(f"rank {step['rank']}: loss {step['loss']}, norm of the gradient {step['grad_norm']}")


def _step_65b(bench: Bench, step: Step, prediction: Future) -> dict:
    expected = _ready(bench, prediction)
    _require_room(bench, expected["reserved"])  # the context exists already
    model = random_model(step.config, step.precision, bench.device, step.method.quantization)
    stored = model.nbytes
    row = compared(bench, measure(model, step.method, step.training, step.examples), expected)
    row |= {"stored": stored, "parameters": _parameters(model), "context_predicted": CONTEXT}
    if bench.cuda:
        free, total = torch.cuda.mem_get_info(bench.device)
        held = total - free - torch.cuda.memory_reserved(bench.device)
        row["context"] = held - (bench.others or 0)
        row["card_in_use"] = total - free
    return row


def _parameters(model: lk.Model) -> int:
    """Return the number of the model's weights, without those of adapters."""
    coded = sum(m.in_features * m.out_features for m in model.module.modules() if is_4bit(m))
    return coded + sum(p.numel() for p in model.parameters() if not p.requires_grad)
