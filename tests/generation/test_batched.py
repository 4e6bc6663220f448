import pytest
import torch
from tiny import CAUSAL, STRONG, disturb, tiny_model

import labkit as lk
from labkit.generation.casts import Casts
from labkit.models.decoding import pads
from labkit.models.encoding import prompt_ids
from labkit.models.evaluation_mode import inference
from labkit.preparation import prepare

PROMPTS = ["The sky", "The sky in the north is blue, and rivers run into", "Item", "Is it a cat or"]
SOME_SLIDE = {"mistral": {"sliding_window": 6}, "gemma2": {"sliding_window": 6}, "gemma3_text": {"sliding_window": 6}}
ASK = {"role": "user", "content": "What is the capital of France?"}
ALIBI = {"alibi": True, "new_decoder_architecture": False, "num_kv_heads": 4}
BAMBA = {"num_hidden_layers": 2, "attn_layer_indices": [1], "mamba_n_groups": 1}
RECURRENT = {"mamba": {}, "bamba": BAMBA | {f"mamba_{size}": 8 for size in ("n_heads", "d_head", "d_state")}}
METHODS = [
    lk.LoRA(),
    lk.LoRA(variant="dora"),
    lk.IA3(),
    lk.BottleneckAdapters(),
    lk.PrefixTuning(virtual_tokens=3),
    lk.PromptTuning(virtual_tokens=3),
]


def made(kind, tokenizer, **sizes):
    reader = tokenizer("smollm2-135m")
    return tiny_model(kind, reader, vocab_size=len(reader), **STRONG | sizes)


@torch.no_grad()
def alone(model, prompt, count):
    """The likeliest tokens of one prompt, everything read anew for each."""
    ids = torch.tensor(prompt_ids(model, [prompt]))
    start = ids.shape[1]
    for _ in range(count):
        ids = torch.cat([ids, model.module(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
    return tuple(ids[0, start:].tolist())


def require_same(model, count=10):
    expected = [alone(model, prompt, count) for prompt in PROMPTS]
    assert len(set(expected)) > 1
    replies = lk.generate(model, [*PROMPTS, *PROMPTS[:2]], count, batch_size=3)  # those are read once, where they meet
    for reply, ids in zip(replies, [*expected, *expected[:2]], strict=True):
        assert reply.ids == ids[: reply.tokens], model.name
        assert reply.stopped or reply.tokens == count


@pytest.mark.parametrize("kind", [*CAUSAL, "falcon with alibi"])
def test_a_batch_says_what_each_prompt_gives_alone(kind, tokenizer, one_thread):
    name, _, alibi = kind.partition(" ")
    require_same(made(name, tokenizer, **SOME_SLIDE.get(name, {}), **ALIBI if alibi else {}))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.name}-{getattr(method, 'variant', '')}")
@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
def test_adapters_take_part(kind, method, tokenizer, one_thread):
    model = prepare(made(kind, tokenizer, **SOME_SLIDE.get(kind, {})), None, method, 0)
    disturb(model)
    require_same(model)


@pytest.mark.parametrize("backend", ["bitsandbytes", "labkit"])
def test_four_bits_take_part(backend, tokenizer, one_thread):
    if backend == "bitsandbytes":
        pytest.importorskip("bitsandbytes")
    model = prepare(made("llama", tokenizer), None, lk.QLoRA(block_size=32, backend=backend), 0)
    disturb(model)
    require_same(model)


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_networks_take_part(kind, tokenizer, one_thread):
    """Padding would enter their states, and rows that end early can't leave these."""
    reader = tokenizer("smollm2-135m")
    model = tiny_model(kind, reader, vocab_size=len(reader), **STRONG | RECURRENT[kind])
    assert not pads(model)
    require_same(model)
    prompts = ["Item", "Or", *PROMPTS[:2]]
    model.module.generation_config.eos_token_id = lk.generate(model, prompts, 3)[0].ids[1]
    lengths = [reply.tokens for reply in lk.generate(model, prompts, 10)]
    assert lengths[0] == 2 < lengths[1]
    require_same(model)
    assert model.generate(prompts[0], 10) == lk.generate(model, prompts, 10)[0].text


def test_a_prompt_is_read_once_for_all_its_replies(tiny):
    shapes = []
    layer = tiny.module.get_input_embeddings()
    with layer.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape)):
        lk.generate(tiny, [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[0]], 3)
    assert [rows for rows, _ in shapes] == [2, 4, 4]


def test_the_real_model_says_the_same_in_float32():
    model = lk.load_model("smollm2-135m", precision="float32")
    replies = lk.generate(model, PROMPTS, 12)
    assert [reply.text for reply in replies] == [model.generate(prompt, 12) for prompt in PROMPTS]
    assert [reply.ids for reply in lk.generate(model, prompt_ids(model, PROMPTS), 12)] == [r.ids for r in replies]


def test_what_ends_a_reply_ends_it_and_the_others_go_on(tiny):
    free = lk.generate(tiny, PROMPTS, 12)
    end = free[0].ids[4]
    tiny.module.generation_config.eos_token_id = [end]
    replies = lk.generate(tiny, PROMPTS, 12)
    for before, after in zip(free, replies, strict=True):
        place = before.ids.index(end) + 1 if end in before.ids else len(before.ids)
        assert after.ids == before.ids[:place]
        assert after.stopped == (end in before.ids)
    assert replies[0].stopped
    assert not all(reply.stopped for reply in replies)


def test_a_text_ends_a_reply(tiny):
    (free,) = lk.generate(tiny, PROMPTS[:1], 12)
    end = free.text[8:11]
    (reply,) = lk.generate(tiny, PROMPTS[:1], 12, stop=[end])
    assert reply.stopped
    assert reply.text == free.text[: free.text.index(end)]
    assert reply.tokens < free.tokens


def test_the_token_behind_a_turn_ends_a_reply(tiny):
    free = lk.generate(tiny, PROMPTS[:1], 12)[0]
    token = tiny.tokenizer.convert_ids_to_tokens(7)  # a special token that ends no text
    assert 7 not in {tiny.tokenizer.eos_token_id, *free.ids}
    handle = tiny.module.register_forward_hook(lambda m, a, output: output.logits[..., 7].add_(1000) and None)
    before = tiny.tokenizer.chat_template
    try:
        tiny.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}" + token + "{% endfor %}"
        (reply,) = lk.generate(tiny, PROMPTS[:1], 12)
        assert (reply.ids, reply.text, reply.stopped) == ((7,), "", True)
    finally:
        tiny.tokenizer.chat_template = before
        handle.remove()


def test_long_prompts_are_cut_with_a_warning(tokenizer, one_thread):
    model = made("gpt2", tokenizer, max_position_embeddings=12, n_positions=12)
    with pytest.warns(lk.TruncationWarning, match="1 of 4 prompts was longer than 8 tokens"):
        replies = lk.generate(model, PROMPTS, 4)
    (whole,) = prompt_ids(model, PROMPTS[1:2])
    assert replies[1].ids == lk.generate(model, [whole[-8:]], 4)[0].ids


def test_log_probabilities_are_those_of_the_model(tiny):
    sampling = lk.Sampling(temperature=0.7, top_k=5)
    for reply, prompt in zip(
        lk.generate(tiny, PROMPTS, 6, sampling=sampling, logprobs=True), prompt_ids(tiny, PROMPTS), strict=True
    ):
        with torch.no_grad():
            logits = tiny.module(torch.tensor([[*prompt, *reply.ids]])).logits[0, len(prompt) - 1 : -1]
        expected = (logits / 0.7).log_softmax(-1)[range(reply.tokens), list(reply.ids)]
        assert reply.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("variant", ["lora", "dora"])
def test_weights_that_are_cast_once_give_what_autocast_gives(variant, tiny):
    model = prepare(tiny, None, lk.LoRA(variant=variant), 0)
    disturb(model)
    model.precision, ids = torch.bfloat16, torch.tensor(prompt_ids(model, PROMPTS[:1]))
    before = dict(model.module.named_parameters())
    with inference(model):
        expected = model.module(ids).logits
        casts = Casts(model)
        with casts.swapped():
            assert model.module.lm_head.weight.dtype == torch.bfloat16
            assert torch.equal(model.module(ids).logits, expected)
    assert casts.nbytes
    assert all(after is before[name] for name, after in model.module.named_parameters())


def test_without_memory_to_spare_nothing_is_copied(tiny, monkeypatch):
    tiny.precision = torch.bfloat16
    copies = Casts(tiny).nbytes
    expected = lk.generate(tiny, PROMPTS, 6)
    monkeypatch.setattr("labkit.generation.casts._free", lambda device: copies)
    assert copies > Casts(tiny).nbytes == 0
    assert lk.generate(tiny, PROMPTS, 6) == expected


def test_wrong_prompts_are_refused(tiny, tiny_encoder):
    assert lk.generate(tiny, []) == []
    for prompts in ("text", 3, [3], [[]], [[1, 10**6]], [[1.0]], [[True]], ["a", [1]], [None]):
        with pytest.raises(lk.LabkitError, match=r"prompts is needed|no list of token ids"):
            lk.generate(tiny, prompts)
    with pytest.raises(lk.LabkitError, match="Conversation 2 ends with a reply already"):
        lk.generate(tiny, [[ASK], [ASK, {"role": "assistant", "content": "Paris."}]])
    for stop in ("text", [""], [3], None, 3):
        with pytest.raises(lk.LabkitError, match="stop is no list"):
            lk.generate(tiny, PROMPTS, stop=stop)
    with pytest.raises(lk.LabkitError, match=r"sampling is 0\.7"):
        lk.generate(tiny, PROMPTS, sampling=0.7)
    with pytest.raises(lk.LabkitError, match="is an encoder"):
        lk.generate(tiny_encoder, PROMPTS)
