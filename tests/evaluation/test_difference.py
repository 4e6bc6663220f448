"""Differences of logits against a plain computation, and what each way of merging costs."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import labkit as lk
from labkit.evaluation import logit_difference
from labkit.evaluation.difference import compared
from labkit.methods.exact import in_float32
from labkit.models.precision import store_linear_weights

PROMPTS = ["The colour of the sky", "A small boat left the harbour of an old town", "Water"]


@pytest.fixture
def decided(tiny):
    """A tiny model whose predictions differ from token to token."""
    with torch.no_grad():
        tiny.module.lm_head.weight *= 20
    return tiny


def tuned(base, method):
    torch.manual_seed(0)
    made = method.apply(base)
    for name, weight in made.module.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.02)
    return made


def test_it_is_what_a_plain_computation_gives(decided):
    other = tuned(decided, lk.LoRA(rank=2))
    found = logit_difference(decided, other, PROMPTS)
    wanted, there = [], []
    for prompt in PROMPTS:
        ids = torch.tensor([decided.tokenizer(prompt)["input_ids"]])
        with torch.no_grad():
            wanted.append(decided.module(ids).logits[0])
            there.append(other.module(ids).logits[0])
    wanted, there = torch.cat(wanted), torch.cat(there)
    assert found.positions == len(wanted)
    assert found.largest == pytest.approx((wanted - there).abs().max().item(), rel=1e-3)
    kl = F.kl_div(there.log_softmax(-1), wanted.log_softmax(-1), log_target=True, reduction="batchmean").item()
    assert found.kl == pytest.approx(kl, rel=1e-3)
    assert found.kl != pytest.approx(logit_difference(other, decided, PROMPTS).kl, rel=1e-3)  # it has a direction
    assert found.agreement == pytest.approx((wanted.argmax(-1) == there.argmax(-1)).float().mean().item())


def test_nothing_differs_from_itself_whatever_its_precision(decided):
    coarse = replace(decided, precision=torch.bfloat16)
    found = logit_difference(decided, coarse, PROMPTS)
    assert (found.largest, found.kl, found.agreement) == (0, 0, 1)
    assert next(decided.module.parameters()).requires_grad


def test_the_share_of_tokens_with_the_same_likeliest_one():
    one, other = torch.eye(4), torch.eye(4)
    other[2, 3] = 2
    assert compared([one[:1], one[1:]], [other[:1], other[1:]]).agreement == 0.75


def test_what_is_no_number_or_of_another_shape_is_infinitely_far():
    one = [torch.zeros(3, 5)]
    for other in ([torch.full((3, 5), math.nan)], [torch.zeros(2, 5)], []):
        assert compared(one, other).largest == compared(one, other).kl == math.inf


def test_what_cannot_be_compared_is_refused(tiny, tiny_encoder):
    other = tiny.copy(share_weights=False)
    other.module.resize_token_embeddings(len(tiny.tokenizer) + 64, mean_resizing=False)
    for pair, prompts, cause in (
        ((tiny, tiny), [], "no prompts"),
        ((tiny_encoder, tiny_encoder), PROMPTS, "is an encoder"),
        ((tiny, other), PROMPTS, "knows .* tokens"),
    ):
        with pytest.raises(lk.LabkitError, match=cause):
            logit_difference(*pair, prompts)


def test_weights_of_every_kind_are_compared_in_float32(decided, tmp_path):
    lora = tuned(decided, lk.LoRA(rank=2))
    exact = lk.merge(lora)
    half = exact.copy(share_weights=False)
    store_linear_weights(half.module, torch.bfloat16)
    nf4 = lk.quantize_model(exact, lk.Quantization(backend="labkit", block_size=32))
    apart = [logit_difference(lora, model, PROMPTS).kl for model in (exact, half, nf4)]
    assert apart[0] < 1e-9 < apart[1] < apart[2] / 100

    qlora = tuned(decided, lk.QLoRA(rank=2, backend="labkit", block_size=32))
    own = lk.merge(replace(qlora, precision=torch.float32), dequantize=True)
    lk.QLoRA(rank=2, backend="labkit", block_size=32).save(qlora, tmp_path)
    original = lk.merge(lk.LoRA(rank=2).load(decided, tmp_path))
    assert logit_difference(qlora, own, PROMPTS).kl < 1e-9
    assert logit_difference(qlora, original, PROMPTS).kl > 100 * apart[1]  # another base, and no rounding at all
    assert in_float32(qlora).lm_head.weight.dtype == torch.float32
