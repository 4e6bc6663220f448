"""The references are PEFT's prefix tuning, and the model itself after it has read the words."""

import pytest
import torch
from letters import CAUSAL, TEXT, after_words, make, outputs, table_of

import labkit as lk
from labkit.methods.adapter import adapters_of
from labkit.models.precision import store_linear_weights

pytestmark = pytest.mark.usefixtures("one_thread")
METHOD = lk.PrefixTuning(virtual_tokens=5, text=TEXT)
ENCODERS = ["bert", "roberta"]  # distilbert takes no cache
QUICK = {"steps": 3, "batch_size": 4, "progress": False}


@pytest.fixture(scope="module")
def causal():
    return make("llama")


# What it starts from


def test_it_starts_as_if_the_words_had_been_read(ids, mask):
    for kind in CAUSAL:
        model = make(kind)
        expected = outputs(model.module, *after_words(ids, mask))[:, 5:]
        found = outputs(METHOD.apply(model).module, ids, mask)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert (found - outputs(model.module, ids, mask)).abs().max() > 0.1


def test_an_encoder_starts_as_if_words_that_see_no_text_had_been_read(ids, mask):
    for kind in ENCODERS:
        model = make(kind)
        ids_after, mask_after = after_words(ids, mask)
        seen = mask_after[:, None, None, :].repeat(1, 1, 18, 1)  # a mask of four dimensions says who sees whom
        seen[:, :, :5, 5:] = False
        with torch.no_grad():
            expected = model.module(input_ids=ids_after, attention_mask=seen)[0][:, 5:] * mask[..., None]
        found = outputs(METHOD.apply(model).module, ids, mask)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert (found - outputs(model.module, ids, mask)).abs().max() > 0.1


def test_words_are_repeated_or_cut_to_as_many_tokens(causal):
    def start(count, text):
        return table_of(lk.PrefixTuning(virtual_tokens=count, text=text).apply(causal))

    assert torch.equal(start(5, "ab"), start(5, "ababa"))
    assert torch.equal(start(5, "words and more"), start(5, "words"))
    assert not torch.equal(start(5, "words"), start(5, "sword"))


def test_words_are_read_without_dropout():
    model = make("bert")
    expected = table_of(METHOD.apply(model))
    model.module.train()
    assert torch.equal(table_of(METHOD.apply(model)), expected)


# What is trained


def test_it_trains_keys_and_values_of_every_layer():
    for kind, sizes, numbers in [
        ("llama", {}, 2 * 2 * 2 * 8 * 5),  # layers × (keys and values) × heads × head size × virtual tokens
        ("llama", {"num_key_value_heads": 4, "num_hidden_layers": 3}, 3 * 2 * 4 * 8 * 5),
        ("qwen3", {"head_dim": 16}, 2 * 2 * 2 * 16 * 5),
        ("bert", {}, 2 * 2 * 4 * 8 * 5),
    ]:
        tuned = METHOD.apply(make(kind, **sizes))
        assert [p.numel() for p in tuned.trainable().values()] == [numbers]
        assert table_of(tuned).shape == (5, numbers // 5)
        assert {p.dtype for p in tuned.trainable().values()} == {torch.float32}


def test_a_model_without_numbers_gets_as_many():
    tuned = lk.PrefixTuning(virtual_tokens=10).apply(lk.blueprint("smollm2-135m"))
    assert [p.numel() for p in tuned.trainable().values()] == [30 * 2 * 3 * 64 * 10]


# On disk


@pytest.mark.parametrize(
    ("sizes", "method", "message"),
    [
        ({}, lk.PrefixTuning(virtual_tokens=4), r"prompt_embeddings is \(5, 64\) there and \(4, 64\) here"),
        ({"num_hidden_layers": 3}, METHOD, r"prompt_embeddings is \(5, 64\) there and \(5, 96\) here"),
        ({"num_key_value_heads": 4}, METHOD, r"prompt_embeddings is \(5, 64\) there and \(5, 128\) here"),
        ({}, lk.PromptTuning(virtual_tokens=5), r"prompt_embeddings is \(5, 64\) there and \(5, 32\) here"),
        ({}, lk.LoRA(), r"lora_A\.weight is missing there"),
    ],
    ids=["fewer tokens", "more layers", "more heads", "prompt", "lora"],
)
def test_a_prefix_of_another_model_or_method_is_refused(causal, tmp_path, sizes, method, message):
    METHOD.save(METHOD.apply(causal), tmp_path)
    other = make("llama", **sizes)
    with pytest.raises(lk.LabkitError, match=f"does not fit: .*{message}") as caught:
        method.load(other, tmp_path)
    assert "settings" in caught.value.remedy
    assert not adapters_of(other)


def test_an_adapter_of_another_kind_is_no_prefix(causal, tmp_path):
    lk.LoRA().save(lk.LoRA().apply(causal), tmp_path)
    with pytest.raises(lk.LabkitError, match=r"does not fit: .*prompt_embeddings is missing there"):
        METHOD.load(causal, tmp_path)


# Stored in fewer bits


def test_in_16_bits_values_are_kept_in_16_bits(ids):
    model = make("llama")
    model.precision = torch.bfloat16
    store_linear_weights(model.module, torch.bfloat16)
    tuned = METHOD.apply(model)
    with tuned.autocast(), torch.no_grad():
        layers = tuned.module(input_ids=ids).past_key_values.layers
    assert {(layer.values.dtype, layer.values.shape[2]) for layer in layers} == {(torch.bfloat16, 5 + 13)}


# What is refused


def test_gradient_checkpointing_is_refused(request, colours):
    for fixture in ["tiny", "tiny_encoder"]:
        base = request.getfixturevalue(fixture)
        with pytest.raises(lk.LabkitError, match=r"gradient checkpointing exclude each other.*\n.*checkpointing=False"):
            lk.finetune(base, colours, METHOD, gradient_checkpointing=True, **QUICK)
        assert lk.finetune(base, colours, METHOD, **(QUICK | {"steps": 1})).history


def test_an_encoder_that_takes_no_keys_and_values_is_refused():
    model = make("distilbert")
    with pytest.raises(lk.LabkitError, match=r"'distilbert' take no keys and values.*\n.*bert, roberta; or prompt"):
        METHOD.apply(model)
    assert not adapters_of(model)
