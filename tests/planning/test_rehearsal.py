"""The reference of the simulation is what a ledger measures of a real step, from the first token to the update."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from tiny import Letters, model_of, tiny_config

import labkit as lk
from labkit.memory import Ledger
from labkit.models.precision import store_linear_weights
from labkit.planning import Step, predict_step
from labkit.planning.simulate import simulate
from labkit.training.batching import Example
from labkit.training.config import TrainingConfig
from labkit.training.policy import PolicyTrainer
from labkit.training.rewards import Rewards

pytestmark = pytest.mark.usefixtures("one_thread")
F32, B16 = torch.float32, torch.bfloat16
STORED = ("trainable", "frozen", "quantized", "optimizer")
METHODS = {
    "full": lk.FullFineTuning(),
    "lora": lk.LoRA(rank=2, target_modules=["q_proj", "down_proj"]),
    "qlora": lk.QLoRA(rank=2, target_modules=["q_proj", "down_proj"], block_size=32),
    "prefix": lk.PrefixTuning(virtual_tokens=3),
}


class Silent(Letters):
    """A tokenizer whose texts don't matter."""

    bos_token_id = eos_token_id = chat_template = None

    def decode(self, ids, **options):
        return ""


def step_of(lengths, rl, method, precision=F32, size=4, copy=False, **sizes):
    """A step that draws ``rl["group"]`` replies to prompts of some lengths."""
    rl = lk.RL(**{"group": 4, "prompts": len(lengths), "max_new_tokens": 6} | rl)
    wide = {"vocab_size": 2000, "hidden_size": 64, "intermediate_size": 128, "eos_token_id": None}
    reply = [3] * rl.max_new_tokens
    examples = [Example([3 + i] * n + reply, len(reply)) for i, n in enumerate(lengths) for _ in range(rl.group)]
    training = TrainingConfig(batch_size=size)
    config = tiny_config(**wide | sizes)
    return Step(config, METHODS[method], training, examples, precision, rl=rl, reference_copy=copy)


def with_config(step, **fields):
    config = deepcopy(step.config)
    for name, value in fields.items():
        setattr(config, name, value)
    return replace(step, config=config)


def stored(step):
    """A model as ``load_model`` stores it."""
    model = model_of(step.config, Silent())
    store_linear_weights(model.module, step.precision)
    model.precision = step.precision
    return model


def measured(step):
    """What the second step of a real run held."""
    prompts = [example.tokens[: -example.learned] for example in step.examples[:: step.rl.group]]
    copy = None
    if step.reference_copy:
        copy = stored(step)
        if isinstance(step.method, lk.QLoRA):
            copy = lk.quantize_model(copy, step.method.quantization)
    rewards = Rewards(lambda rows, replies: [float(i % 3) for i in range(len(replies))])
    training = replace(step.training, steps=2)
    model = step.method.apply(stored(step))
    trainer = PolicyTrainer(model, [{}] * len(prompts), prompts, rewards, training, step.rl, reference=copy)
    trainer.step(0)
    beside = {"value": trainer.value_head, "reference": copy and copy.module}
    beside = {name: network for name, network in beside.items() if network is not None}
    with Ledger(model.module, trainer.adamw, beside=beside) as ledger:
        trainer.step(1)
    return ledger.report


def part_of_peak(trace):
    """The part of a step in which the most memory is held."""
    moments = trace._moments()
    top = max(range(len(moments)), key=lambda i: moments[i].total)
    return [name for what, name, at in trace.marks if what == "part" and at <= top][-1]


def assert_measured(report, real):
    assert report.peak == pytest.approx(real.peak, rel=1e-3)
    for kind in STORED:
        assert getattr(report, kind) == getattr(real, kind)


SAMPLED = {"group": 16, "max_new_tokens": 40}  # many replies, of which few are learned at once
FEW = {"size": 1, "vocab_size": 100, "num_key_value_heads": 4}
CASES = {
    "grpo": step_of([9, 9], {"beta": 0.1}, "lora"),
    "rloo": step_of([5, 9], {"algorithm": "rloo", "beta": 0.1, "sampling": lk.Sampling(0.9, top_k=20)}, "lora", B16),
    "ppo": step_of([5, 9], {"algorithm": "ppo", "updates": 2, "beta": 0.1}, "lora", size=3),
    "full": step_of([9], {"algorithm": "grpo", "beta": 0.1}, "full", B16, copy=True),
    "a copy": step_of([5, 9], {"algorithm": "ppo", "beta": 0.1}, "lora", copy=True),
    "4 bits": step_of([9], {"algorithm": "rloo", "beta": 0.1}, "qlora", B16, copy=True),
    "prefix": step_of([5, 9], {"algorithm": "grpo"}, "prefix"),
    "sampling": step_of([2], SAMPLED, "lora", **FEW),
    "reading": step_of([60] * 16, {"group": 2, "max_new_tokens": 8}, "lora", **FEW),  # a prompt once for its replies
    "one token": step_of([9], {"max_new_tokens": 1}, "lora"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_real_step_holds_what_was_predicted(name):
    step = CASES[name]
    assert_measured(predict_step(step).tensors, measured(step))


def test_the_peak_is_in_whatever_part_it_is():
    assert part_of_peak(simulate(CASES["sampling"])[0]) == "sampling"
    assert part_of_peak(simulate(CASES["reading"])[0]) == "reading"
    assert part_of_peak(simulate(CASES["grpo"])[0]) == "learning"


@pytest.mark.parametrize("name", ["full", "sampling"])
def test_four_blocks_are_predicted_from_two_and_three(name):
    step = with_config(CASES[name], num_hidden_layers=4)
    trace, blocks = simulate(step)
    assert len(blocks) == 4
    made, report = predict_step(step).tensors, trace.report()
    assert made.peak == pytest.approx(report.peak, rel=1e-4)
    for kind in STORED:
        assert getattr(made, kind) == getattr(report, kind)


def test_a_copy_adds_its_weights():
    with_copy, without = (predict_step(replace(CASES["grpo"], reference_copy=copy)).tensors for copy in (True, False))
    assert with_copy.trainable == without.trainable
    assert with_copy.peak - without.peak == pytest.approx(without.frozen, rel=1e-3)


def test_replies_that_end_early_take_less():
    step = CASES["grpo"]
    soon = with_config(step, eos_token_id=list(range(1500)))
    assert measured(soon).peak < 0.9 * predict_step(step).tensors.peak
