"""Compare training speed with transformers' Trainer and TRL's SFTTrainer, in one run on one machine.

All train the same LoRA (rank 8 on all linear layers) on the same triage examples. Useful tokens are those
of prompts and completions, without padding. The contenders take turns, and the medians of their steps
count, so that a machine whose speed drifts treats them equally.

    python benchmarks/train_speed.py [--steps 10] [--rounds 2]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import json
import logging
import operator
import platform
import statistics
import sys
import tempfile
import time
import warnings
from importlib.metadata import version

import peft
import torch
import transformers
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, TrainerCallback, TrainingArguments

import labkit as lk
from labkit.methods.adapter import adapters_of
from labkit.preparation import prepare
from labkit.training.batching import encode
from labkit.training.schedule import plan_batches

BATCH, RATE, SEED = 16, 2e-4, 0
METHOD = lk.LoRA(rank=8, alpha=16)


class Clock(TrainerCallback):
    """Notes the seconds of each step, and the loss that the Trainer logs."""

    def __init__(self):
        self.seconds, self.losses, self.tokens = [], [], []

    def on_step_begin(self, *args, **kwargs):
        self.began = time.perf_counter()

    def on_step_end(self, *args, **kwargs):
        self.seconds.append(time.perf_counter() - self.began)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.losses.append(logs["loss"])
        if "num_tokens" in logs:
            self.tokens.append(logs["num_tokens"])


class OrderedTrainer(transformers.Trainer):
    """A Trainer that reads its dataset in order."""

    def _get_train_sampler(self, *args, **kwargs):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def arguments(kind, folder: str, steps: int, **extra):
    return kind(
        output_dir=folder,
        per_device_train_batch_size=extra.pop("batch", BATCH),
        max_steps=steps,
        learning_rate=RATE,
        bf16=extra.pop("bf16", True),
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        seed=SEED,
        **extra,
    )


def ours(task, steps, precision="auto"):
    lm = lk.load_model("smollm2-135m", precision=precision)
    run = lk.finetune(lm, task, METHOD, steps=steps, batch_size=BATCH, learning_rate=RATE, warmup=0.0, progress=False)
    return [h["tokens"] for h in run.history], [h["seconds"] for h in run.history], [h["loss"] for h in run.history]


def tuned_module(task):
    """Return what a user of the rivals has: PEFT's LoRA, which starts with our factors here."""
    lm = lk.load_model("smollm2-135m", precision="float32")  # the Trainer casts to bfloat16 itself
    start = adapters_of(prepare(lm, task, METHOD, SEED))
    config = peft.LoraConfig(r=METHOD.rank, lora_alpha=METHOD.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    module = peft.get_peft_model(lm.copy(share_weights=True).module, config)
    with torch.no_grad():
        for path, ours in start.items():
            theirs = module.get_submodule(f"base_model.model.{path}")
            theirs.lora_A["default"].weight.copy_(ours.lora_A)
            theirs.lora_B["default"].weight.copy_(ours.lora_B)
    return lm, module.train()


def hf_trainer(task, steps, *, same_order, bf16=True):
    lm, module = tuned_module(task)
    examples = encode(lm, task.train["prompt"], task.train["completion"], 512)
    order = functools.reduce(operator.iadd, plan_batches([len(e.tokens) for e in examples], BATCH, steps, SEED), [])
    if not same_order:
        order = list(range(len(examples)))
    rows = [
        {
            "input_ids": examples[i].tokens,
            "labels": [-100] * (len(examples[i].tokens) - examples[i].learned)
            + examples[i].tokens[-examples[i].learned :],
        }
        for i in order
    ]
    clock, seen = Clock(), []
    collate = DataCollatorForSeq2Seq(lm.tokenizer, padding=True)

    def counting(features):
        seen.append(sum(len(f["input_ids"]) for f in features))
        return collate(features)

    with tempfile.TemporaryDirectory() as folder:
        kind = OrderedTrainer if same_order else transformers.Trainer
        kind(
            model=module,
            args=arguments(TrainingArguments, folder, steps, dataloader_pin_memory=False, bf16=bf16),
            train_dataset=Dataset.from_list(rows),
            data_collator=counting,
            callbacks=[clock],
        ).train()
    return seen[: len(clock.seconds)], clock.seconds, clock.losses


def trl_trainer(task, steps, **settings):
    from trl import SFTConfig, SFTTrainer  # here, because gpu.py uses the rest of this file without TRL

    lm, module = tuned_module(task)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        args = arguments(SFTConfig, folder, steps, dataloader_pin_memory=False, **settings)
        SFTTrainer(
            model=module,
            args=args,
            train_dataset=task.train.select_columns(["prompt", "completion"]),
            processing_class=lm.tokenizer,
            callbacks=[clock],
        ).train()
    totals = [0, *clock.tokens]
    return [b - a for a, b in itertools.pairwise(totals)], clock.seconds, clock.losses


CONTENDERS = {
    "labkit": ours,
    "Trainer, its own order": lambda task, steps: hf_trainer(task, steps, same_order=False),
    "Trainer, our order": lambda task, steps: hf_trainer(task, steps, same_order=True),
    "SFTTrainer, defaults": trl_trainer,
    # One row has about as many tokens as our 16 examples.
    "SFTTrainer, tuned": lambda task, steps: trl_trainer(
        task, steps, gradient_checkpointing=False, packing=True, max_length=512, batch=1
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    task = lk.load_task("triage", train=1000, test=60)
    speeds = {name: [] for name in CONTENDERS}
    losses = {}
    for _ in range(options.rounds):
        for name, contender in CONTENDERS.items():
            with contextlib.redirect_stdout(io.StringIO()):
                tokens, seconds, losses[name] = contender(task, options.steps)
            # The first two steps warm up caches, and ours records its memory in the second.
            rates = [t / s for t, s in zip(tokens[2:], seconds[2:], strict=False)]
            speeds[name].append(sum(tokens[2:]) / sum(seconds[2 : len(tokens)]))
            print(f"  {name:<24} {speeds[name][-1]:6.0f} useful tokens/s (median step {statistics.median(rates):.0f})")
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        exact = ours(task, 3, "float32")[2], hf_trainer(task, 3, same_order=True, bf16=False)[2]
    gaps = {
        "float32": [abs(a - b) for a, b in zip(*exact, strict=True)],
        "16 bits": [abs(a - b) for a, b in zip(losses["labkit"][:3], losses["Trainer, our order"][:3], strict=True)],
    }
    print(
        f"\n{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"transformers {transformers.__version__}, trl {version('trl')}\n")
    for name, speed in medians.items():
        print(f"{name:<24} {speed:6.0f} useful tokens/s   labkit is {medians['labkit'] / speed:.2f} times as fast")
    # AdamW's first updates follow the sign of a gradient, even if that is only rounding: runs in 16 bits part from
    # the third step on. In float32, both programs visibly do the same.
    print("\ngap to Trainer's loss in the first three steps, in nats a token")
    for name, values in gaps.items():
        print(f"  {name}: {', '.join(f'{gap:.6f}' for gap in values)}")
    print(json.dumps({"speeds": speeds, "gaps": gaps, "losses": {k: v[:3] for k, v in losses.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
