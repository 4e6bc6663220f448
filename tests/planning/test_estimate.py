"""The references are a real model's sizes, and the formula worked out by hand."""

import itertools
from dataclasses import replace

import pytest
import torch
from tiny import alike, tiny_config

import labkit as lk
from labkit.models.config import blueprint_config
from labkit.models.meta import meta_model
from labkit.planning import Step
from labkit.planning.adapt import adapt_model
from labkit.planning.estimate import estimate
from labkit.training.config import TrainingConfig

pytestmark = pytest.mark.usefixtures("one_thread")
ONE = TrainingConfig(batch_size=1)
METHODS = {
    "full": lk.FullFineTuning(),
    "lora": lk.LoRA(rank=2),
    "dora": lk.LoRA(rank=2, variant="dora"),
    "qlora": lk.QLoRA(rank=2, block_size=32),
    "qlora labkit": lk.QLoRA(rank=2, block_size=32, backend="labkit"),
}


def test_weights_gradients_and_states_are_exact():
    for precision, layers, method in itertools.product([torch.float32, torch.bfloat16], [1, 2, 5], METHODS):
        config = tiny_config(num_hidden_layers=layers)
        report = estimate(Step(config, METHODS[method], ONE, alike(1, 16, 15), precision))
        model = adapt_model(
            meta_model(config, precision), METHODS[method]
        )  # as large as the real model, as another test shows
        trained = sum(p.numel() for p in model.trainable().values())
        assert report.trainable == report.gradients == 4 * trained
        assert report.optimizer == 8 * trained
        assert report.parameters == model.nbytes
        assert (report.quantized > 0) == method.startswith("qlora")
        assert (report.frozen > 1000) == (method != "full")


def test_weights_of_a_real_model_are_exact(tiny):
    report = estimate(Step(tiny.module.config, lk.FullFineTuning(), ONE, alike(1, 16, 15)))
    count = sum(p.numel() for p in tiny.parameters())
    assert report.trainable == report.gradients == 4 * count
    assert report.optimizer == 8 * count
    assert report.parameters == tiny.nbytes


def test_activations_and_logits_follow_the_formula():
    for precision, activations, logits in [
        # 34 (68) bytes for each of 4 × 16 tokens, 32 numbers wide, in each of 5 blocks.
        (torch.bfloat16, 34 * 4 * 16 * 32 * 5, 2 * 4 * 10 * 128 * (2 + 4)),
        (torch.float32, 68 * 4 * 16 * 32 * 5, 2 * 4 * 10 * 128 * (4 + 4)),
    ]:
        config = tiny_config(num_hidden_layers=5)
        report = estimate(Step(config, lk.LoRA(rank=2), replace(ONE, batch_size=4), alike(4, 16, 10), precision))
        assert (report.activations, report.logits, report.temporaries) == (activations, logits, 0)


def test_checkpointing_keeps_the_inputs_of_blocks_and_one_block():
    config, training = tiny_config(num_hidden_layers=5), replace(ONE, gradient_checkpointing=True)
    report = estimate(Step(config, lk.LoRA(rank=2), training, alike(4, 16, 10), torch.bfloat16))
    assert report.activations == 34 * 4 * 16 * 32 + 5 * 4 * 16 * 32 * 4


def test_full_fine_tuning_of_65_billion_takes_more_than_780_gigabytes():
    # Dettmers et al., 2023, arXiv:2305.14314, abstract: "more than 780 GB" in 16 bits; labkit trains in 32.
    report = estimate(Step(blueprint_config("llama-65b"), lk.FullFineTuning(), ONE, alike(1, 512, 511), torch.bfloat16))
    assert report.peak > 780e9
    assert report.parameters + report.gradients + report.optimizer == pytest.approx(16 * 65_285_660_672, rel=1e-6)


def test_qlora_of_65_billion_is_below_48_gigabytes():
    training = replace(ONE, gradient_checkpointing=True)
    report = estimate(Step(blueprint_config("llama-65b"), lk.QLoRA(), training, alike(1, 512, 511), torch.bfloat16))
    matrices, numbers = 80 * 7, 80 * (4 * 8192**2 + 3 * 8192 * 22016)
    scales = numbers // 64 + 4 * numbers // 64 // 256 + matrices * 4
    assert report.quantized == numbers // 2 + scales + matrices * 4 * (16 + 256)  # and bitsandbytes' tables
    assert report.peak < 48e9
