import re

import pytest
import torch
from networks import logits, vectors

import labkit as lk
from labkit.assets.fetch import ensure
from labkit.models.precision import store_linear_weights


def memory(model) -> set[int]:
    return {parameter.data_ptr() for parameter in model.parameters()}


# The real models


def test_the_language_model_has_its_published_size(smollm):
    assert sum(parameter.numel() for parameter in smollm.parameters()) == 134_515_008
    assert "134.5 million" in repr(smollm)
    assert smollm.kind == "causal"


def test_the_language_model_knows_the_capital_of_france(smollm):
    assert "Paris" in smollm.generate("The capital of France is", max_new_tokens=4)


def test_generating_adds_the_likeliest_token_each_time(tiny):
    ids = tiny.tokenizer("One, two, three,", return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    with torch.no_grad():
        for _ in range(5):
            ids = torch.cat([ids, tiny.module(ids).logits[:, -1:].argmax(-1)], 1)
    assert tiny.generate("One, two, three,", 5) == tiny.tokenizer.decode(ids[0, start:])


def test_the_encoder_puts_like_meanings_together(minilm):
    query, like, other = vectors(minilm, ["A man eats pizza.", "Someone is having a meal.", "The stock market fell."])
    assert query @ like > query @ other + 0.2
    assert minilm.kind == "encoder"


def test_padding_on_the_right_leaves_the_vectors_alone(tiny_encoder, minilm):
    together = vectors(tiny_encoder, ["Short.", "A sentence that is quite a bit longer than the other one."])
    assert torch.allclose(together[0], vectors(tiny_encoder, ["Short."])[0], atol=1e-5)
    assert minilm.tokenizer.padding_side == "right"


def test_an_encoder_cannot_write(minilm):
    with pytest.raises(lk.LabkitError, match="encoder") as caught:
        minilm.generate("Once upon a time")
    assert "smollm2-135m" in caught.value.remedy


# The tokenizer of SmolLM2


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("2025", ["2", "0", "2", "5"]),
        ("a  1", ["a", "ĠĠ", "1"]),
        ("in 1990", ["in", "Ġ", "1", "9", "9", "0"]),
        ("The cat", ["The", "Ġcat"]),
    ],
)
def test_text_is_split_as_the_model_saw_it_in_training(smollm, text, tokens):
    assert smollm.tokenizer.tokenize(text) == tokens
    assert smollm.tokenizer(text)["input_ids"] == smollm.tokenizer.convert_tokens_to_ids(tokens)


def test_a_thousand_texts_come_back_as_they_were(smollm):
    obo = (ensure("hpo") / "hp.obo").read_text(encoding="utf-8")
    texts = re.findall(r'^def: "(.+)" \[', obo, re.MULTILINE)[:880] + lk.general_english(120)
    assert len(texts) == 1000
    ids = smollm.tokenizer(texts)["input_ids"]
    assert smollm.tokenizer.batch_decode(ids) == texts


def test_chats_are_written_in_the_form_of_the_models_training(smollm):
    chat = [{"role": "user", "content": "Hi"}]
    assert smollm.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_marks_of_a_chat_are_single_tokens(smollm):
    assert smollm.tokenizer("<|im_start|>user<|im_end|>")["input_ids"][::2] == [1, 2]
    assert smollm.tokenizer.eos_token_id == 2
    assert smollm.tokenizer.pad_token is not None


# Copies


@pytest.mark.parametrize("share", [True, False])
def test_a_copy_answers_as_the_original(tiny, share):
    copy = tiny.copy(share_weights=share)
    assert torch.equal(logits(copy), logits(tiny))
    assert not {id(m) for m in copy.module.modules()} & {id(m) for m in tiny.module.modules()}


def test_a_sharing_copy_lies_over_the_same_memory(tiny):
    copy = tiny.copy(share_weights=True)
    assert memory(copy) == memory(tiny)
    assert not {id(p) for p in copy.parameters()} & {id(p) for p in tiny.parameters()}


def test_an_independent_copy_is_float32_memory_of_its_own(tiny):
    store_linear_weights(tiny.module, torch.bfloat16)
    copy = tiny.copy(share_weights=False)
    assert not memory(copy) & memory(tiny)
    assert {p.dtype for p in copy.parameters()} == {torch.float32}
    before = {name: p.clone() for name, p in tiny.module.named_parameters()}
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(1)
    assert all(torch.equal(p, before[name]) for name, p in tiny.module.named_parameters())


@pytest.mark.parametrize("share", [True, False])
def test_tied_weights_stay_tied(tiny, share):
    copy = tiny.copy(share_weights=share).module
    assert copy.lm_head.weight is copy.model.embed_tokens.weight
    assert sum(p.numel() for p in copy.parameters()) == sum(p.numel() for p in tiny.parameters())


@pytest.mark.parametrize("share", [True, False])
def test_a_copy_keeps_what_is_frozen(tiny, share):
    tiny.module.model.embed_tokens.weight.requires_grad_(False)
    copy = tiny.copy(share_weights=share)
    assert [p.requires_grad for p in copy.parameters()] == [p.requires_grad for p in tiny.parameters()]
    assert not copy.module.model.embed_tokens.weight.requires_grad


def test_adapters_on_a_copy_leave_the_original_alone(tiny):
    before, flags = logits(tiny), [p.requires_grad for p in tiny.parameters()]
    names = [name for name, _ in tiny.module.named_modules()]
    tuned = lk.LoRA().apply(tiny)
    with torch.no_grad():
        for name, parameter in tuned.module.named_parameters():
            if "lora_" in name:
                parameter.fill_(0.1)
    assert not torch.equal(logits(tuned), before)
    assert torch.equal(logits(tiny), before)
    assert [p.requires_grad for p in tiny.parameters()] == flags
    assert [name for name, _ in tiny.module.named_modules()] == names
    assert memory(tiny) <= memory(tuned)


def test_a_copied_head_is_its_own(tiny_encoder):
    tiny_encoder.head = torch.nn.Linear(32, 3)
    copy = tiny_encoder.copy(share_weights=True)
    with torch.no_grad():
        copy.head.weight.zero_()
    assert tiny_encoder.head.weight.abs().sum() > 0
    assert len(tiny_encoder.parameters()) == len(list(tiny_encoder.module.parameters())) + 2


# Fingerprints


def test_the_fingerprint_is_that_of_the_weights_in_any_precision(tiny, saved):
    expected = tiny.fingerprint()
    assert re.fullmatch("[0-9a-f]{16}", expected)
    for precision in ("float32", "bfloat16"):
        assert lk.load_model(str(saved), precision=precision).fingerprint() == expected


def test_the_fingerprint_of_the_real_model_survives_storage_in_other_types(smollm):
    copy = smollm.copy(share_weights=True)
    for dtype in (torch.float16, torch.bfloat16):
        # On the copy: its parameters are new objects, so the original keeps its own storage.
        store_linear_weights(copy.module, dtype)
        assert copy.fingerprint() == smollm.fingerprint()


def test_the_fingerprint_changes_with_any_tensor(tiny):
    expected = tiny.fingerprint()
    for parameter in tiny.parameters():
        old = parameter.detach().clone()
        with torch.no_grad():
            parameter.view(-1)[0] += 1
        assert tiny.fingerprint() != expected
        parameter.data.copy_(old)
    assert tiny.fingerprint() == expected


# In 4 bits (the layers themselves: tests/methods/test_qlora.py)


@pytest.mark.parametrize("backend", ["labkit", "bitsandbytes"])
def test_a_copy_in_4_bits_answers_alike_and_cannot_have_weights_of_its_own(tiny, backend):
    made = lk.quantize_model(tiny, lk.Quantization(block_size=32, backend=backend))
    copy = made.copy(share_weights=True)
    assert torch.equal(logits(copy), logits(made))
    assert not {id(m) for m in copy.module.modules()} & {id(m) for m in made.module.modules()}
    with pytest.raises(lk.LabkitError, match=r"stored in 4 bits \(nf4\), which cannot be trained"):
        made.copy(share_weights=False)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_model_in_4_bits_writes(saved, precision):
    model = lk.load_model(str(saved), device="cpu", precision=str(precision).removeprefix("torch."))
    texts = {
        lk.quantize_model(model, lk.Quantization(block_size=32, backend=backend)).generate("One, two,", 5)
        for backend in ("labkit", "bitsandbytes")
    }
    assert len(texts) == 1


def test_bytes_are_counted_once_for_tied_and_shared_weights(tiny, tiny_encoder):
    buffers = sum(b.numel() * b.element_size() for b in tiny.module.buffers())
    assert tiny.nbytes == 4 * sum(p.numel() for p in tiny.parameters()) + buffers
    store_linear_weights(tiny.module, torch.bfloat16)
    linear = sum(m.weight.numel() for m in tiny.module.model.modules() if isinstance(m, torch.nn.Linear))
    assert tiny.nbytes == 4 * sum(p.numel() for p in tiny.parameters()) - 2 * linear + buffers
    bare = tiny_encoder.nbytes
    tiny_encoder.head = torch.nn.Linear(32, 3)
    assert tiny_encoder.nbytes - bare == 4 * (3 * 32 + 3)


def test_the_real_model_in_4_bits_takes_a_third_and_still_knows_the_capital_of_france(smollm):
    made = lk.quantize_model(smollm)
    linear = sum(m.weight.numel() for m in smollm.module.model.modules() if isinstance(m, torch.nn.Linear))
    size = next(m.weight.element_size() for m in smollm.module.model.modules() if isinstance(m, torch.nn.Linear))
    saved_bits = 8 * (smollm.nbytes - made.nbytes) / linear
    assert 8 * size - 4.2 < saved_bits < 8 * size - 4.1  # 4 bits, and about 0.13 for the scales
    assert "134.5 million parameters, nf4" in repr(made)
    assert "Paris" in made.generate("The capital of France is", max_new_tokens=4)
