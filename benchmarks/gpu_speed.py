"""Compare training speed with transformers' Trainer and TRL's SFTTrainer, on random weights and random tokens.

``train_speed.py`` compares the same programs on the real SmolLM2 and the triage task. A machine with a card may have
neither, and no network: here the shape is SmolLM2's, the lengths are those of a task, and nothing is read from disk.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import random
import statistics
import tempfile
import time
import warnings
from unittest import mock

import torch
from gpu_models import Bench, Skipped, config_of, random_model, release, wait
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

import labkit as lk
from labkit.training.batching import Example, collate
from labkit.training.loop import Trainer

BATCH, WARM = 16, 2  # the first steps warm up caches


def random_examples(count: int, vocabulary: int) -> list[Example]:
    """Return examples as long as those of a classification task: 30 to 90 tokens, the last few learned."""
    rng = random.Random(0)
    return [
        Example([rng.randrange(3, vocabulary) for _ in range(rng.randrange(30, 90))], rng.randrange(3, 7))
        for _ in range(count)
    ]


def labkit_steps(bench: Bench, shape: str, examples: list[Example], steps: int) -> list[tuple[int, float]]:
    """Return tokens and the time at the end of each step of labkit's loop."""
    model = lk.LoRA().apply(random_model(config_of(shape), bench.precision, bench.device), inplace=True)
    trainer = Trainer(model, examples, lk.TrainingConfig(steps=steps, batch_size=BATCH))
    ends = []
    for step in range(steps):
        tokens = trainer.step(step)["tokens"]
        wait(bench.device)
        ends.append((tokens, time.perf_counter()))
    return ends


def trainer_steps(
    bench: Bench, shape: str, examples: list[Example], steps: int, *, trl: bool
) -> list[tuple[int, float]]:
    """Return the same of transformers' Trainer or TRL's, on PEFT's LoRA."""
    import peft
    from datasets import Dataset
    from train_speed import arguments
    from transformers import Trainer as HfTrainer
    from transformers import TrainerCallback, TrainingArguments

    config = config_of(shape)
    module = random_model(config, torch.float32, bench.device).module  # the Trainer casts to 16 bits itself
    lora = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    module = peft.get_peft_model(module, lora).train()
    seen, ends = [], []

    def batch_of(rows: list[dict]) -> dict:
        """Pad as labkit does, so that only the loops differ; and count tokens."""
        seen.append(sum(len(row["input_ids"]) for row in rows))
        batch = collate([Example(row["input_ids"], row["learned"]) for row in rows], 0, torch.device("cpu"))
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.targets}

    class Ends(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            wait(bench.device)
            ends.append(time.perf_counter())

    rows = [{"input_ids": e.tokens, "labels": _labels(e), "learned": e.learned} for e in examples]
    extra = {"bf16": bench.precision == torch.bfloat16, "fp16": bench.precision == torch.float16, "batch": BATCH}
    with tempfile.TemporaryDirectory() as folder:
        options = {"dataloader_pin_memory": False, "remove_unused_columns": False, **extra}
        settings = {"model": module, "train_dataset": Dataset.from_list(rows), "data_collator": batch_of}
        if trl:
            from trl import SFTConfig, SFTTrainer

            kind, settings["processing_class"] = SFTTrainer, _tokenizer(config.vocab_size)
            settings["args"] = arguments(
                SFTConfig,
                folder,
                steps,
                gradient_checkpointing=False,
                dataset_kwargs={"skip_prepare_dataset": True},
                **options,
            )
        else:
            kind, settings["args"] = HfTrainer, arguments(TrainingArguments, folder, steps, **options)
        kind(callbacks=[Ends()], **settings).train()
    return list(zip(seen, ends, strict=False))


def _labels(example: Example) -> list[int]:
    return [-100] * (len(example.tokens) - example.learned) + example.tokens[-example.learned :]


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose words are numbers: SFTTrainer needs one even if the data is tokenized."""
    words = Tokenizer(WordLevel({str(i): i for i in range(vocabulary)}, unk_token="0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="0", eos_token="2", unk_token="0")


def training_speed(bench: Bench, found: dict) -> None:
    """Let the contenders take turns; report tokens in a second, padding left out, after the first steps."""
    found |= {"rows": [], "skipped": [], "failed": []}
    contenders = {
        "labkit": (labkit_steps, {}, ()),
        "Trainer": (trainer_steps, {"trl": False}, ("peft", "datasets")),
        "SFTTrainer": (trainer_steps, {"trl": True}, ("peft", "datasets", "trl")),
    }
    steps, rounds = (3 if bench.dry else 22), 2
    shapes = ("tiny",) if bench.dry else ("smollm2-135m", "llama-3.2-1b")
    slowest = 0.0
    for shape in shapes:
        examples = random_examples(BATCH * steps, config_of(shape).vocab_size)
        speeds: dict[str, list[float]] = {name: [] for name in contenders}
        for name, (contender, options, needs) in list(contenders.items()) * rounds:
            if missing := [package for package in needs if importlib.util.find_spec(package) is None]:
                why = f"{' and '.join(missing)} not installed"
            elif bench.left < slowest:
                why = "no time left"
            else:
                before = bench.left
                try:
                    with _quiet():
                        speeds[name].append(_speed(contender(bench, shape, examples, steps, **options)))
                except Exception as problem:
                    found["failed"].append(
                        {"model": shape, "name": name, "error": f"{type(problem).__name__}: {problem}"}
                    )
                slowest = max(slowest, before - bench.left)
                release(bench.device)
                continue
            if (left_out := {"model": shape, "name": name, "why": why}) not in found["skipped"]:
                found["skipped"].append(left_out)
        for name, values in speeds.items():
            if values:
                row = {"model": shape, "name": name, "tokens_per_second": statistics.median(values), "rounds": values}
                found["rows"].append(row)
        bench.save()
    if found["failed"]:
        raise RuntimeError(f"{len(found['failed'])} runs failed; {found['failed'][0]['error']}")
    if not found["rows"]:
        raise Skipped(found["skipped"][0]["why"])


def _speed(ends: list[tuple[int, float]]) -> float:
    tokens = sum(count for count, _ in ends[WARM:])
    return round(tokens / (ends[-1][1] - ends[WARM - 1][1]), 1)


@contextlib.contextmanager
def _quiet():
    """Keep the rivals' progress and advice off the screen, and their settings out of the environment."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        # They also leave settings for Accelerate in the environment, which the next contender would read.
        with mock.patch.dict(os.environ), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
