"""Compare packing with grouping by length and with plain padding, and with TRL's packing, in one run on one machine.

All train the same LoRA (rank 8 on all linear layers) on the same examples. Useful tokens are those of prompts and
completions, without padding. Packed rows are as many as hold about the tokens of a batch of the others. The contenders
take turns, and the medians of their speeds count, so that a machine whose speed drifts treats them equally.

    python benchmarks/packing.py [--task triage] [--batch 16] [--max-length 512] [--steps 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import logging
import platform
import random
import statistics
import sys
import warnings
from importlib.metadata import version

import torch
import transformers
from train_speed import METHOD, RATE, SEED, trl_trainer

import labkit as lk
from labkit.preparation import configure, encode_examples, prepare
from labkit.training.loop import Trainer
from labkit.training.packing import pack
from labkit.training.schedule import Schedule, padded_tokens

WARM = 2  # steps that fill caches; ours records its memory in the second


class Unsorted(Schedule):
    """Batches in a random order, as they come: what a shuffling data loader makes."""

    def _planned(self, lengths, count):
        rng, stream, size = random.Random(self._config.seed), [], self._config.batch_size
        while len(stream) < count * size:
            stream += rng.sample(range(len(lengths)), len(lengths))
        return [[[i] for i in stream[at * size : (at + 1) * size]] for at in range(count)]


def ours(task, steps, *, schedule=Schedule, **settings):
    """Return the useful tokens and the seconds of each step, and the share of padding in all of them."""
    lm = lk.load_model("smollm2-135m")
    config = configure(lm, METHOD, {"steps": steps, "learning_rate": RATE, "warmup": 0.0, "seed": SEED, **settings})
    examples, _ = encode_examples(lm, task, (), config)
    trainer = Trainer(prepare(lm, task, METHOD, SEED), examples, config)
    trainer.schedule = schedule(examples, (), config)
    trainer.run()
    tokens = [record["tokens"] for record in trainer.history]
    computed = sum(padded_tokens(batch) for step in range(steps) for batch in trainer.schedule.batches(step))
    return tokens, [record["seconds"] for record in trainer.history], 1 - sum(tokens) / computed


def theirs(task, steps, **settings):
    """The same of TRL, which doesn't tell how much it pads."""
    return *trl_trainer(task, steps, gradient_checkpointing=False, **settings)[:2], None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="triage", help="the name of a task")
    parser.add_argument("--batch", type=int, default=16, help="examples in an unpacked batch")
    parser.add_argument("--max-length", type=int, default=512, help="tokens in a packed row")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.steps <= WARM:
        parser.error(f"--steps must be more than {WARM}: the first ones don't count")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    task = lk.load_task(options.task, train=1000, test=60)
    lm = lk.load_model("smollm2-135m")
    config = configure(lm, METHOD, {"max_length": options.max_length})
    lengths = sorted(len(example.tokens) for example in encode_examples(lm, task, (), config)[0])
    rows = max(1, round(options.batch * len(pack(lengths, options.max_length)) / len(lengths)))
    print(
        f"{task.name}: {len(lengths)} examples of {lengths[0]} to {lengths[-1]} tokens, half of them below "
        f"{statistics.median(lengths):.0f}; batches of {options.batch} examples, or {rows} rows of {options.max_length}"
    )
    plain = {"batch_size": options.batch, "max_length": options.max_length}
    packed = {"batch_size": rows, "max_length": options.max_length, "packing": True}
    contenders = {
        "labkit, packing": functools.partial(ours, **packed),
        "labkit, grouped by length": functools.partial(ours, **plain),
        "labkit, plain padding": functools.partial(ours, schedule=Unsorted, **plain),
        "TRL, packing": functools.partial(theirs, packing=True, max_length=options.max_length, batch=rows),
        "TRL, plain padding": functools.partial(theirs, max_length=options.max_length, batch=options.batch),
    }
    speeds = {name: [] for name in contenders}
    padding = {}
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            with contextlib.redirect_stdout(io.StringIO()):
                tokens, seconds, padding[name] = contender(task, options.steps)
            speeds[name].append(sum(tokens[WARM:]) / sum(seconds[WARM : len(tokens)]))
            print(f"  {name:<26} {speeds[name][-1]:6.0f} useful tokens/s", flush=True)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    print(
        f"\n{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads\n"
        f"torch {torch.__version__}, transformers {transformers.__version__}, trl {version('trl')}\n"
    )
    for name, speed in medians.items():
        share = "" if padding[name] is None else f"   {padding[name]:5.1%} padding"
        ratio = medians["labkit, packing"] / speed
        print(f"{name:<26} {speed:6.0f} useful tokens/s   our packing is {ratio:.2f} times as fast{share}")
    print(json.dumps({"task": options.task, "speeds": speeds, "padding": padding}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
