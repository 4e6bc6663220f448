"""The references are PEFT's prompt tuning, and the model itself when it reads the words before the text."""

import itertools

import pytest
import torch
from letters import CAUSAL, ENCODERS, TEXT, after_words, make, outputs, table_of
from torch.nn import functional as F

import labkit as lk
from labkit.evaluation import label_probabilities
from labkit.methods.adapter import adapters_of
from labkit.training.batching import Example, collate
from labkit.training.objectives import sentence_vectors

pytestmark = pytest.mark.usefixtures("one_thread")
METHOD = lk.PromptTuning(virtual_tokens=5, text=TEXT)
QUICK = {"steps": 3, "batch_size": 4, "progress": False}


@pytest.fixture(scope="module")
def causal():
    return make("llama")


# What it starts from


def test_it_starts_as_if_the_words_stood_before_the_text(ids, mask):
    for kind in [*CAUSAL, *ENCODERS]:
        model = make(kind)
        expected = outputs(model.module, *after_words(ids, mask))[:, 5:]
        found = outputs(METHOD.apply(model).module, ids, mask)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert (found - outputs(model.module, ids, mask)).abs().max() > 0.1


def test_the_words_are_of_the_first_type_of_tokens(ids, mask):
    model = make("bert")
    ids_after, mask_after = after_words(ids, mask)
    types = torch.ones_like(ids)
    settings = {"attention_mask": mask_after.long(), "token_type_ids": F.pad(types, (5, 0))}
    with torch.no_grad():
        expected = model.module(input_ids=ids_after, **settings)[0][:, 5:]
        tuned = METHOD.apply(model).module
        found = tuned(input_ids=ids, attention_mask=mask.long(), token_type_ids=types)[0]
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=1e-5)


def test_words_are_repeated_or_cut_to_as_many_tokens(causal):
    table = causal.module.model.embed_tokens.weight
    for count, text, expected in ((5, "ab", "ababa"), (3, "words", "wor"), (1, "words", "w")):
        tuned = lk.PromptTuning(virtual_tokens=count, text=text).apply(causal)
        assert torch.equal(table_of(tuned), table[[ord(letter) for letter in expected]])


# What is trained


def test_it_trains_a_vector_for_each_virtual_token():
    for kind, (count, sizes) in itertools.product(
        ["llama", "bert"], [(5, {}), (1, {"num_hidden_layers": 3}), (7, {"hidden_size": 64})]
    ):
        tuned = lk.PromptTuning(virtual_tokens=count).apply(make(kind, **sizes))
        assert table_of(tuned).shape == (count, sizes.get("hidden_size", 32))
        assert table_of(tuned).dtype == torch.float32


def test_vectors_are_as_wide_as_those_of_words(ids):
    model = make("opt", word_embed_proj_dim=16)
    tuned = METHOD.apply(model)
    assert table_of(tuned).shape == (5, 16)
    assert outputs(tuned.module, ids).shape == (3, 13, 128)


def test_a_model_without_numbers_gets_as_many():
    tuned = lk.PromptTuning(virtual_tokens=10).apply(lk.blueprint("smollm2-135m"))
    assert table_of(tuned).shape == (10, 576)


def test_the_words_are_those_of_the_tokenizer_without_what_begins_and_ends_a_text(tiny_encoder):
    tokenizer = tiny_encoder.tokenizer
    words = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("read the text"))
    vectors = table_of(lk.PromptTuning(virtual_tokens=3, text="read the text").apply(tiny_encoder))
    assert torch.equal(vectors, tiny_encoder.module.embeddings.word_embeddings.weight[words])


def test_gradient_checkpointing_changes_no_result(request, colours):
    for fixture in ["tiny", "tiny_encoder"]:
        base = request.getfixturevalue(fixture)
        runs = [lk.finetune(base, colours, METHOD, gradient_checkpointing=saving, **QUICK) for saving in (False, True)]
        one, two = (next(iter(run.model.trainable().values())) for run in runs)
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
        assert runs[1].memory.peak < runs[0].memory.peak


# On disk


@pytest.mark.parametrize(
    ("sizes", "method", "message"),
    [
        ({}, lk.PromptTuning(virtual_tokens=4), r"prompt_embeddings is \(5, 32\) there and \(4, 32\) here"),
        ({"hidden_size": 64}, METHOD, r"prompt_embeddings is \(5, 32\) there and \(5, 64\) here"),
        ({}, lk.PrefixTuning(virtual_tokens=5), r"prompt_embeddings is \(5, 32\) there and \(5, 64\) here"),
        ({}, lk.IA3(), r"ia3_l is missing there"),
    ],
    ids=["fewer tokens", "wider vectors", "prefix", "ia3"],
)
def test_a_prompt_of_another_model_or_method_is_refused(causal, tmp_path, sizes, method, message):
    METHOD.save(METHOD.apply(causal), tmp_path)
    other = make("llama", **sizes)
    with pytest.raises(lk.LabkitError, match=f"does not fit: .*{message}") as caught:
        method.load(other, tmp_path)
    assert "settings" in caught.value.remedy
    assert not adapters_of(other)


def test_an_adapter_of_another_kind_is_no_prompt(causal, tmp_path):
    lk.IA3().save(lk.IA3().apply(causal), tmp_path)
    with pytest.raises(lk.LabkitError, match=r"does not fit: .*prompt_embeddings is missing there"):
        METHOD.load(causal, tmp_path)


# What comes out


def test_there_is_an_output_for_each_token_of_the_text(causal, ids):
    module = METHOD.apply(causal).module
    whole = outputs(module, ids)
    assert whole.shape == (3, 13, 128)
    for kept in (1, 4, 13, torch.tensor([-3, -1])):
        expected = whole[:, kept] if torch.is_tensor(kept) else whole[:, -kept:]
        torch.testing.assert_close(module(input_ids=ids, logits_to_keep=kept).logits.detach(), expected)


def test_a_sentences_vector_is_the_mean_over_the_tokens_of_the_text(ids, mask):
    model = make("bert")
    batch = collate([Example(row[seen].tolist(), 0) for row, seen in zip(ids, mask, strict=True)], 0, model.device)
    found = sentence_vectors(METHOD.apply(model), batch)
    read = outputs(model.module, *after_words(ids, mask))
    expected = torch.stack([row[5:][seen].mean(dim=0) for row, seen in zip(read, mask, strict=True)])
    torch.testing.assert_close(found.detach(), expected / expected.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-5)


# What is refused


def test_a_text_that_evaluation_cuts_leaves_room_for_the_prompt(tiny_encoder):
    with pytest.warns(lk.TruncationWarning, match="longer than 507 tokens and lost its end"):
        assert label_probabilities(METHOD.apply(tiny_encoder), ["grass " * 600], ["a", "b"]).shape == (
            1,
            2,
        )
