import pytest
import torch
from tiny import CAUSAL, STRONG, Letters, tiny_model

import labkit as lk
from labkit.models.caches import join_caches
from labkit.models.decoding import Decoding
from labkit.models.evaluation_mode import inference
from labkit.preparation import prepare

SLIDING = {"mistral": {"sliding_window": 6}, "gemma2": {"sliding_window": 6}, "gemma3_text": {"sliding_window": 6}}
ALIBI = {"alibi": True, "new_decoder_architecture": False, "num_kv_heads": 4}
# When a prompt joins, its length, and how many tokens are added: short ones join wide batches, long ones narrow ones,
# and the widest leaves while others stay.
ARRIVALS = [(0, 3, 14), (1, 9, 3), (1, 5, 8), (2, 20, 3), (2, 1, 9), (7, 2, 6), (8, 4, 1)]


@pytest.fixture
def prompts():
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 128, (length,), generator=generator).tolist() for _, length, _ in ARRIVALS]


@torch.no_grad()
def alone(model, prompt, count):
    """The likeliest tokens of one prompt, everything read anew for each."""
    ids = torch.tensor([prompt])
    for _ in range(count):
        ids = torch.cat([ids, model.module(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
    return ids[0, len(prompt) :].tolist()


def together(model, prompts):
    """The likeliest tokens of all, which join when ``ARRIVALS`` says, and the widths of the cache after each step."""
    made, widths = [[] for _ in prompts], []
    running, rows = None, []

    def step(decoding, rows):
        tokens = decoding.logits().argmax(-1)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            made[row].append(token)
        keep = [len(made[row]) < ARRIVALS[row][2] for row in rows]
        if any(keep):
            decoding.append(tokens, keep)
        return [row for row, kept in zip(rows, keep, strict=True) if kept]

    with inference(model):
        for time in range(20):
            new = [row for row, (start, *_) in enumerate(ARRIVALS) if start == time]
            arrival = Decoding(model, [prompts[row] for row in new]) if new else None
            new = step(arrival, new) if new else []
            if rows and new:
                running.join(arrival)
            elif new:
                running = arrival
            rows += new
            if rows:
                rows = step(running, rows)
                widths.append(running.cache.get_seq_length())
    assert not rows
    return made, widths


@pytest.mark.parametrize("kind", [*CAUSAL, "falcon with alibi"])
def test_prompts_that_join_are_continued_as_alone(kind, prompts, one_thread):
    name, _, alibi = kind.partition(" ")
    model = tiny_model(name, Letters(), **STRONG | SLIDING.get(name, {}) | (ALIBI if alibi else {}))
    made, widths = together(model, prompts)
    expected = [alone(model, prompt, count) for prompt, (*_, count) in zip(prompts, ARRIVALS, strict=True)]
    assert made == expected
    assert len(set(map(tuple, expected))) == len(expected)
    assert max(widths) > 20 > widths[7], "columns go that no row needs"


@pytest.mark.parametrize("method", [lk.PrefixTuning(virtual_tokens=3), lk.PromptTuning(virtual_tokens=3)])
def test_behind_virtual_tokens_everything_is_read_again(method, prompts, tokenizer, one_thread):
    reader = tokenizer("smollm2-135m")
    model = prepare(tiny_model("llama", reader, vocab_size=len(reader), **STRONG), None, method, 0)
    made, _ = together(model, prompts)
    assert made == [alone(model, prompt, count) for prompt, (*_, count) in zip(prompts, ARRIVALS, strict=True)]


def test_what_cannot_be_joined_stays_as_it_was(one_thread):
    model = tiny_model()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        one, other = (model.module(ids, use_cache=True).past_key_values for _ in range(2))
    keys = one.layers[0].keys.clone()
    assert not join_caches(one, None, [3, 3], 3)
    assert not join_caches(one, other, [3, 2], 3)
    assert torch.equal(one.layers[0].keys, keys)
    assert join_caches(one, other, [3, 3], 4)
    assert one.layers[0].keys.shape[0] == 2
    assert torch.equal(one.layers[0].keys[1, :, 1:], keys[0])
