"""Compare the speed of generation with one prompt at a time and with transformers' own generate, in one run.

All four continue the same triage prompts, of several lengths, with the likeliest tokens. No token ends a reply, so all
make the same number of tokens. transformers has its weights in the type that is computed in. The contenders take
turns, and the best time of each counts, because other work on the machine disturbs it least; "of the CPU" is the ratio
of the seconds that the processor worked, all threads together. Reading the prompts costs a batch as much as single
prompts, or more, because of the padding: the ratios grow with the number of tokens. The goal of labkit's batches: 3
times the tokens a second of one prompt at a time on 8 prompts, 5 times on 16.

    python benchmarks/generation_speed.py [--tokens 64] [--prompts 8 16] [--rounds 3] [--threads 2]
        [--precisions float32 bfloat16]
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import time
from collections.abc import Callable

import torch
import transformers
from transformers import AutoModelForCausalLM

import labkit as lk
from labkit.assets.fetch import ensure
from labkit.models.model import Model
from labkit.models.precision import cpu_has_bfloat16

GOALS = {8: 3, 16: 5}  # prompts: times as fast as one at a time
OURS = "labkit, batched"


def endless(model: Model) -> Model:
    """Return the model without tokens that end a text."""
    model.tokenizer.eos_token = model.tokenizer.chat_template = None
    model.module.config.eos_token_id = model.module.generation_config.eos_token_id = None
    return model


def contenders(model: Model, theirs, prompts: list[str], count: int) -> dict[str, Callable[[], list[str]]]:
    """Return the four, by name; each returns the texts of its replies."""
    reader = model.tokenizer
    settings = {"max_new_tokens": count, "do_sample": False, "pad_token_id": reader.pad_token_id, "eos_token_id": None}

    def continued(texts: list[str]) -> list[str]:
        inputs = reader(texts, return_tensors="pt", padding=True, padding_side="left")
        whole = theirs.generate(**inputs, **settings)
        return reader.batch_decode(whole[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    return {
        OURS: lambda: [reply.text for reply in lk.generate(model, prompts, count, batch_size=len(prompts))],
        "labkit, one by one": lambda: [model.generate(prompt, count) for prompt in prompts],
        "transformers, batched": lambda: continued(prompts),
        "transformers, one by one": lambda: [continued([prompt])[0] for prompt in prompts],
    }


def measure(runs: dict[str, Callable[[], list[str]]], rounds: int) -> tuple[dict[str, tuple[float, float]], dict]:
    """Return the best seconds of each, by the clock and of the processor, and its texts."""
    clocks = (time.perf_counter, time.process_time)
    seconds: dict[str, list[list[float]]] = {name: [] for name in runs}
    texts = {}
    for _ in range(rounds):
        for name, run in runs.items():
            began = [clock() for clock in clocks]
            texts[name] = run()
            seconds[name].append([clock() - start for clock, start in zip(clocks, began, strict=True)])
    return {name: tuple(map(min, zip(*values, strict=True))) for name, values in seconds.items()}, texts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompts", type=int, nargs="+", default=[*GOALS], choices=[*GOALS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    known = ["float32", *(["bfloat16"] if cpu_has_bfloat16() else [])]
    parser.add_argument("--precisions", nargs="+", default=known, choices=["float32", "bfloat16"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    task, results = lk.load_task("triage", train=100, test=60), []
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    print(f"transformers {transformers.__version__}, {options.tokens} tokens a reply, best of {options.rounds}")
    for precision in options.precisions:
        model = endless(lk.load_model("smollm2-135m", precision=precision))
        theirs = AutoModelForCausalLM.from_pretrained(ensure("smollm2-135m"), dtype=getattr(torch, precision)).eval()
        theirs.generation_config.eos_token_id = None
        measure(contenders(model, theirs, task.test["prompt"][:2], 2), 1)  # the first calls fill caches
        for size in options.prompts:
            runs = contenders(model, theirs, task.test["prompt"][:size], options.tokens)
            seconds, texts = measure(runs, options.rounds)
            print(f"\n{precision}, {size} prompts; goal: {GOALS[size]} times as fast as one by one")
            for name, (value, busy) in seconds.items():
                same = sum(a == b for a, b in zip(texts[name], texts[OURS], strict=True))
                line = f"  {name:<25}{size * options.tokens / value:7.1f} tokens/s   {same:2} of {size} texts the same"
                if name != OURS:
                    ratio, of_cpu = value / seconds[OURS][0], busy / seconds[OURS][1]
                    line += f"   labkit's batch is {ratio:.2f} times as fast (of the CPU: {of_cpu:.2f})"
                print(line, flush=True)
            speeds = {name: size * options.tokens / value for name, (value, _) in seconds.items()}
            results.append({"precision": precision, "prompts": size, "tokens_per_second": speeds})
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
