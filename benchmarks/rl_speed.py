"""Compare the speed of learning from rewards with TRL's GRPOTrainer, in one run on one machine.

A step draws 4 replies of at most 24 tokens to each of 4 prompts, counts their vowels, which is the reward, and makes
one update of the same LoRA (rank 8 on all linear layers) with GRPO's loss and without a KL penalty. All see the same
prompts in the same order, and read all replies of a step at once. They draw with random numbers of their own, so that
replies differ: "tokens" says how many theirs have on average. labkit also scores each step's replies with the model
before training, for its curve of the KL divergence. TRL does not where beta is 0, so labkit does more work in a step.
The tuned GRPOTrainer has its weights in the type that is computed in, and no gradient checkpointing; by default it has
weights in float32, draws in float32, and computes the forward pass twice. Without a graphics card, TRL 1.16 computes
logits of all positions, those of prompts and padding included, and labkit only those that predict replies: what this
says of a CPU doesn't hold on a card.

The contenders take turns. The first step of each turn fills caches and doesn't count; the medians of the others do.
"Drawing" is the share of these steps' time before the rewards are asked for; "of the CPU" are the seconds that the
processor worked, all threads together, which other work on the machine disturbs less. Brackets hold the lowest and the
highest ratio of a round.

    python benchmarks/rl_speed.py [--steps 4] [--rounds 2] [--threads 2] [--precision bfloat16]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
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
from train_speed import METHOD, RATE, SEED, Clock, arguments
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

import labkit as lk
from labkit.assets.fetch import ensure
from labkit.generation.prompts import fitted
from labkit.models.precision import cpu_has_bfloat16
from labkit.tasks.questions import questions
from labkit.training.schedule import plan_batches

MODEL, OURS = "smollm2-135m", "labkit"
RL = lk.RL("grpo", group=4, prompts=4, max_new_tokens=24)
REPLIES = RL.group * RL.prompts


class Watch(Clock):
    """The reward of all; notes when a step begins, when it has drawn its replies, and how many tokens these have."""

    def __init__(self):
        super().__init__()
        self.begins, self.busy, self.drawn, self.lengths = [], [], [], []

    def on_step_begin(self, *args, **kwargs):
        self.worked = time.process_time()
        super().on_step_begin()
        self.begins.append(self.began)

    def on_step_end(self, *args, **kwargs):
        super().on_step_end()
        self.busy.append(time.process_time() - self.worked)

    def vowels(self, texts, lengths):
        self.drawn.append(time.perf_counter())
        self.lengths.append(lengths)
        return [float(sum(letter in "aeiou" for letter in text.lower())) for text in texts]

    def found(self) -> list[dict[str, float]]:
        """Return what each step but the first took."""
        steps = zip(self.seconds, self.busy, self.begins, self.drawn, self.lengths, strict=False)
        return [
            {
                "seconds": seconds,
                "busy": busy,
                "drawing": drawn - began,
                "replies": len(lengths),
                "tokens": sum(lengths),
            }
            for seconds, busy, began, drawn, lengths in steps
        ][1:]


def ours(task, steps, precision):
    lm, watch = lk.load_model(MODEL, precision=precision), Watch()

    def reward(rows, replies):
        return watch.vowels([reply.text for reply in replies], [reply.tokens for reply in replies])

    def after(*args):  # a step begins where the one before ends; the first, which has no such begin, doesn't count
        watch.on_step_end()
        watch.on_step_begin()

    watch.on_step_begin()
    settings = {"steps": steps, "batch_size": REPLIES, "learning_rate": RATE, "warmup": 0.0, "seed": SEED}
    run = lk.reinforce(lm, task, reward, METHOD, rl=RL, callbacks=[after], progress=False, **settings)
    return watch.found(), sum(parameter.numel() for parameter in run.model.trainable().values())


def prompts_of(lm, task, steps):
    """Return the prompts in the order of labkit's steps, after checking that TRL reads the same tokens."""
    asked = questions(task)[1]
    ids = fitted(lm, asked, RL.max_new_tokens)
    if lm.tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"] != ids:
        raise SystemExit("labkit and TRL read the prompts as different tokens.")
    plan = plan_batches([len(row) for row in ids], RL.prompts, steps, SEED)
    return Dataset.from_list([{"prompt": asked[i]} for batch in plan for i in batch])


def trl_trainer(task, steps, precision, *, weights, **settings):
    tokenizer = (lm := lk.load_model(MODEL)).tokenizer
    module, watch = AutoModelForCausalLM.from_pretrained(ensure(MODEL), dtype=getattr(torch, weights)), Watch()

    def reward(completions, completion_ids, **others):
        return watch.vowels([turns[0]["content"] for turns in completions], [len(ids) for ids in completion_ids])

    settings |= {"num_generations": RL.group, "max_completion_length": RL.max_new_tokens, "beta": RL.beta}
    settings |= {"loss_type": "grpo", "shuffle_dataset": False, "dataloader_pin_memory": False}
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=module,
            reward_funcs=reward,
            args=arguments(GRPOConfig, folder, steps, batch=REPLIES, bf16=precision == "bfloat16", **settings),
            train_dataset=prompts_of(lm, task, steps),
            processing_class=tokenizer,
            callbacks=[watch],
            peft_config=peft.LoraConfig(
                r=METHOD.rank, lora_alpha=METHOD.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )
        trainer.train()
    return watch.found(), sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)


CONTENDERS = {
    OURS: ours,
    "GRPOTrainer, tuned": lambda task, steps, precision: trl_trainer(
        task, steps, precision, weights=precision, gradient_checkpointing=False
    ),
    "GRPOTrainer, defaults": lambda task, steps, precision: trl_trainer(task, steps, precision, weights="float32"),
}


def spread(ratios) -> str:
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f} to {max(ratios):.2f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="of each turn that count")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    best = "bfloat16" if cpu_has_bfloat16() else "float32"
    parser.add_argument("--precision", default=best, choices=["float32", "bfloat16"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    task = lk.load_task("preferences", train=64, test=8)
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    print(f"transformers {transformers.__version__}, trl {version('trl')}, {options.precision}\n", flush=True)
    steps, trained = {name: [] for name in CONTENDERS}, set()
    medians = {name: [] for name in CONTENDERS}
    for _ in range(options.rounds):
        for name, contender in CONTENDERS.items():
            with contextlib.redirect_stdout(io.StringIO()):
                found, parameters = contender(task, options.steps + 1, options.precision)
            trained.add(parameters)
            steps[name] += found
            medians[name].append([statistics.median(step[key] for step in found) for key in ("seconds", "busy")])
            print("  {:<22}{:7.2f} s a step, {:7.2f} s of the CPU".format(name, *medians[name][-1]), flush=True)
    if len(trained) > 1 or {step["replies"] for found in steps.values() for step in found} != {REPLIES}:
        raise SystemExit("The contenders don't train as many parameters or don't draw as many replies.")
    print()
    for name, found in steps.items():
        sums = {key: sum(step[key] for step in found) for key in found[0]}
        line = f"{name:<22}{statistics.median(step['seconds'] for step in found):7.2f} s a step"
        line += f"   {sums['drawing'] / sums['seconds']:4.0%} drawing   {sums['tokens'] / sums['replies']:5.1f} tokens"
        if name != OURS:
            pairs = zip(medians[name], medians[OURS], strict=True)
            fast, of_cpu = zip(*([a / b for a, b in zip(*pair, strict=True)] for pair in pairs), strict=True)
            line += f"   labkit is {spread(fast)} times as fast (of the CPU: {spread(of_cpu)})"
        print(line)
    print(json.dumps({"precision": options.precision, "threads": options.threads, "steps": steps}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
