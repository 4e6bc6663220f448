"""Compare predicted and measured peak memory of a training step, for every method.

The prediction is labkit's simulation over weights without numbers. The measurement is the allocator's own record of
a real step after the first. Beside them stand the textbook's formula (``labkit.planning.estimate``) and what
``accelerate estimate-memory`` calculates, which knows neither methods nor batches.

    python benchmarks/memory_error.py [--models minilm smollm2-135m] [--out FILE.json] [--overhead]

On a GPU, the measurement is ``torch.cuda.max_memory_allocated``, and models of published size may have random weights:

    python benchmarks/memory_error.py --device cuda --models smollm2-1.7b
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate.commands.estimate import estimate_training_usage
from accelerate.utils import calculate_maximum_sizes
from transformers import AutoModelForCausalLM

import labkit as lk
from labkit.computer import processor
from labkit.methods import Method
from labkit.models.config import blueprint_config
from labkit.models.meta import meta_model
from labkit.models.precision import PRECISIONS, store_linear_weights
from labkit.planning import predict_step, step_of
from labkit.planning.estimate import estimate
from labkit.preparation import prepare
from labkit.storage.files import write_text
from labkit.storage.records import stamped
from labkit.training.batching import Example
from labkit.training.loop import Trainer

METHODS = {
    "full": lk.FullFineTuning(),
    "LoRA": lk.LoRA(),
    "LoRA, r = 64, dropout": lk.LoRA(rank=64, dropout=0.1),
    "DoRA": lk.LoRA(variant="dora"),
    "PiSSA": lk.LoRA(variant="pissa"),
    "QLoRA": lk.QLoRA(),
    "QLoRA, labkit's layers": lk.QLoRA(backend="labkit"),
}
SHAPES = {"2 × 24": (2, 24, 0), "4 × 48, padded": (4, 48, 5), "8 × 96, padded": (8, 96, 3)}


def batch_of(size: int, length: int, shorter: int) -> list[Example]:
    """Return examples, each a little shorter than the one before; the last quarter is learned."""
    lengths = [length - shorter * row for row in range(size)]
    return [Example(list(range(100, 100 + n)), max(1, n // 4), 0) for n in lengths]


def measure(model: lk.Model, task: lk.Task, method: Method, config: lk.TrainingConfig, batch: list[Example]) -> int:
    """Return the peak of the second step, in bytes, as the allocator recorded it."""
    tuned = prepare(model, task, method, 0)
    trainer = Trainer(tuned, batch, config)
    trainer.step(0)
    with lk.Ledger(tuned.module, trainer.adamw, tuned.head) as ledger:
        trainer.step(1)
    return ledger.report.peak


def row_of(model: lk.Model, task: lk.Task, name: str, checkpointing: bool, shape: str) -> dict:
    """Return one case: measured, and predicted in three ways."""
    batch, method = batch_of(*SHAPES[shape]), METHODS[name]
    config = lk.TrainingConfig(steps=2, batch_size=len(batch), gradient_checkpointing=checkpointing)
    measured = measure(model, task, method, config, batch)
    gc.collect()
    step = step_of(model, method, config, batch, len(task.labels))
    began = time.perf_counter()
    peak = predict_step(step).on(model.device).peak
    seconds = time.perf_counter() - began
    precision = str(model.precision).removeprefix("torch.")
    size, _ = calculate_maximum_sizes(meta_model(step.config, torch.float32).module)
    return {
        "model": model.name,
        "precision": precision,
        "method": name,
        "checkpointing": checkpointing,
        "batch": shape,
        "measured": measured,
        "predicted": peak,
        "textbook": estimate(step).peak,
        "accelerate": max(estimate_training_usage(size, precision).values()),
        "seconds": round(seconds, 2),
    }


def load(name: str, device: str, precision: str) -> lk.Model:
    """Return the pretrained model of that name, or else a model of published size with random weights."""
    if name in ("minilm", "smollm2-135m"):
        return lk.load_model(name, device=device, precision=precision)
    dtype = PRECISIONS[precision]
    with torch.device(device):
        module = AutoModelForCausalLM.from_config(blueprint_config(name), dtype=torch.float32)
    store_linear_weights(module, dtype)
    return lk.Model(name, module.eval(), SimpleNamespace(pad_token_id=0), "causal", dtype)


def show(row: dict) -> None:
    """Print one line of the table."""
    others = "".join(f"{row[way] / row['measured'] - 1:>+10.0%}" for way in ("textbook", "accelerate"))
    saving = "checkpointing" if row["checkpointing"] else ""
    print(
        f"{row['model']:<14}{row['precision']:<10}{row['method']:<24}{saving:<15}{row['batch']:<16}"
        f"{row['measured'] / 1e6:>9.1f} MB{row['predicted'] / row['measured'] - 1:>+10.3%}{others}",
        flush=True,
    )


def overhead(model: lk.Model, task: lk.Task, rounds: int = 5) -> None:
    """Print how much longer a step takes while the ledger is on, and how long reading the record takes."""
    batch = batch_of(16, 64, 1)
    tuned = prepare(model, task, lk.LoRA(), 0)
    trainer = Trainer(tuned, batch, lk.TrainingConfig(steps=2, batch_size=len(batch)))
    trainer.step(0)
    plain, recorded, read = [], [], []
    for _ in range(rounds):
        began = time.perf_counter()
        trainer.step(1)
        plain.append(time.perf_counter() - began)
        ledger = lk.Ledger(tuned.module, trainer.adamw, tuned.head)
        with ledger:
            began = time.perf_counter()
            trainer.step(1)
            recorded.append(time.perf_counter() - began)
            began = time.perf_counter()
        _ = ledger.report
        read.append(time.perf_counter() - began)
    without, on, after = (statistics.median(values) for values in (plain, recorded, read))
    print(
        f"{model.name}, {model.precision}: a LoRA step of 16 × 64 takes {without:.2f} s without the ledger, "
        f"{on / without:.3f} times as long with it; reading the record takes {after:.2f} s afterwards"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["minilm", "smollm2-135m"])
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--out", type=Path, help="JSON file for the rows")
    parser.add_argument("--overhead", action="store_true", help="measure only the time that the ledger takes")
    options = parser.parse_args()
    task = lk.load_task("triage")
    rows = []
    for name, precision in itertools.product(options.models, ("float32", "bfloat16")):
        model = load(name, options.device, precision)
        if options.overhead:
            overhead(model, task)
            continue
        for case in itertools.product(METHODS, (False, True), SHAPES):
            rows.append(row_of(model, task, *case))
            show(rows[-1])
    if options.overhead:
        return
    errors = {way: [row[way] / row["measured"] - 1 for row in rows] for way in ("predicted", "textbook", "accelerate")}
    for way, values in errors.items():
        low = sum(value < 0 for value in values)
        print(f"{way:<12}worst {max(values, key=abs):+.3%}, too low in {low} of {len(rows)} cases")
    if options.out:
        packages = ("torch", "transformers", "bitsandbytes", "accelerate")
        name = processor(torch.device(options.device))
        made = {"date": time.strftime("%Y-%m-%d"), "processor": name, "threads": torch.get_num_threads()}
        made |= {"versions": {package: version(package) for package in packages}, "rows": rows}
        write_text(options.out, json.dumps(stamped("memory error", made), indent=1) + "\n")


if __name__ == "__main__":
    main()
