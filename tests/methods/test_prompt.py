"""The references are PEFT's prompt tuning, and the model itself when it reads the words before the text."""

import copy
import json

import peft
import pytest
import torch
from letters import CAUSAL, ENCODERS, TASKS, TEXT, after_words, make, outputs
from moved import trained
from safetensors.torch import load_file
from torch.nn import functional as F

import labkit as lk
from labkit.assets.models import store_linear_weights
from labkit.methods.adapter import adapters_of
from labkit.training.batching import Example, collate
from labkit.training.objectives import completion_loss, sentence_vectors

pytestmark = pytest.mark.usefixtures("one_thread")
METHOD = lk.PromptTuning(virtual_tokens=5, text=TEXT)
QUICK = {"steps": 3, "batch_size": 4, "progress": False}


@pytest.fixture(scope="module")
def causal():
    return make("llama")


@pytest.fixture(scope="module", params=["llama", "bert"])
def model(request):
    return make(request.param)


@pytest.fixture
def ids():
    return torch.arange(4, 43).view(3, 13)


@pytest.fixture
def mask(ids):
    """The second text is one of 9 tokens, the third of 5."""
    return torch.arange(13) < torch.tensor([[13], [9], [5]])


def peft_twin(model, tuned):
    """PEFT's model of the same numbers, and its vectors."""
    config = peft.PromptTuningConfig(num_virtual_tokens=5, task_type=TASKS[model.kind])
    twin = peft.get_peft_model(copy.deepcopy(model.module), config).eval()
    vectors = twin.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        vectors.copy_(vectors_of(tuned))
    return twin, vectors


def outputs_of_twin(twin, ids, mask):
    """PEFT's output without that of the virtual tokens."""
    after = torch.cat([torch.zeros(len(ids), 5).bool(), mask], dim=1)
    with torch.no_grad():
        return (twin(input_ids=ids, attention_mask=mask.long())[0] * after[..., None])[:, 5:]


def vectors_of(tuned):
    """What is trained."""
    (vectors,) = tuned.trainable().values()
    return vectors


def state(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.mark.parametrize("padded", [False, True])
def test_outputs_and_gradients_are_those_of_peft_with_the_same_numbers(model, ids, mask, padded):
    mask = mask if padded else torch.ones_like(mask)
    tuned = trained(model, METHOD)
    twin, vectors = peft_twin(model, tuned)
    expected = outputs_of_twin(twin, ids, mask)
    torch.testing.assert_close(outputs(tuned.module, ids, mask), expected, atol=1e-6, rtol=1e-6)

    for module, start in ((tuned.module, 0), (twin, 5)):
        output = module(input_ids=ids, attention_mask=mask.long())[0][:, start:][mask]
        F.cross_entropy(output, ids[mask] % output.shape[-1], reduction="sum").backward()
    assert vectors.grad.abs().max() > 1e-2
    torch.testing.assert_close(vectors_of(tuned).grad, vectors.grad, atol=1e-6, rtol=1e-5)


# What it starts from


@pytest.mark.parametrize("kind", [*CAUSAL, *ENCODERS])
def test_it_starts_as_if_the_words_stood_before_the_text(kind, ids, mask):
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
        assert torch.equal(vectors_of(tuned), table[[ord(letter) for letter in expected]])


@pytest.mark.parametrize("init", ["random", "words"])
def test_the_start_depends_on_the_seed_where_it_is_random(causal, init):
    def start(model, seed):
        torch.manual_seed(seed)
        return vectors_of(lk.PromptTuning(virtual_tokens=5, init=init).apply(model))

    first = start(causal, 3)
    assert torch.equal(start(causal, 3), first)
    assert torch.equal(start(causal, 4), first) == (init == "words")
    other = make("llama", initializer_range=0.1)
    assert torch.equal(start(other, 3), first) == (init == "random")


def test_a_random_start_is_drawn_from_the_normal_distribution(causal):
    torch.manual_seed(0)
    vectors = vectors_of(lk.PromptTuning(virtual_tokens=50, init="random").apply(causal))
    assert vectors.mean().item() == pytest.approx(0, abs=0.1)
    assert vectors.std().item() == pytest.approx(1, abs=0.05)


# What is trained


@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize(("count", "sizes"), [(5, {}), (1, {"num_hidden_layers": 3}), (7, {"hidden_size": 64})])
def test_it_trains_a_vector_for_each_virtual_token(kind, count, sizes):
    tuned = lk.PromptTuning(virtual_tokens=count).apply(make(kind, **sizes))
    assert vectors_of(tuned).shape == (count, sizes.get("hidden_size", 32))
    assert vectors_of(tuned).dtype == torch.float32


def test_vectors_are_as_wide_as_those_of_words(ids):
    model = make("opt", word_embed_proj_dim=16)
    tuned = METHOD.apply(model)
    assert vectors_of(tuned).shape == (5, 16)
    assert outputs(tuned.module, ids).shape == (3, 13, 128)


def test_a_model_without_numbers_gets_as_many():
    tuned = lk.PromptTuning(virtual_tokens=10).apply(lk.blueprint("smollm2-135m"))
    assert vectors_of(tuned).shape == (10, 576)


@pytest.mark.parametrize("fixture", ["tiny", "tiny_encoder"])
def test_a_run_trains_the_prompt_alone_and_comes_back_bit_for_bit(request, colours, tmp_path, fixture):
    base = request.getfixturevalue(fixture)
    before, layers = state(base), [name for name, _ in base.module.named_modules()]
    run = lk.finetune(base, colours, METHOD, **QUICK)

    assert equal(state(base), before)
    assert [name for name, _ in base.module.named_modules()] == layers
    assert all(p.requires_grad and p.grad is None for p in base.module.parameters())
    after = state(run.model)
    assert after.keys() - before.keys() == {name for name in run.model.trainable() if not name.startswith("head.")}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())

    loaded = lk.load_run(run.save(tmp_path / "mine"), base)
    assert equal(state(loaded.model), after)
    assert not equal(state(METHOD.apply(base)), after)
    prompts = colours.test["prompt"]
    one, two = (lk.label_probabilities(each, prompts, colours.labels) for each in (run.model, loaded.model))
    assert torch.equal(one, two)
    assert loaded.method == METHOD
    assert loaded.trained_parameters == run.trained_parameters


def test_the_words_are_those_of_the_tokenizer_without_what_begins_and_ends_a_text(tiny_encoder):
    tokenizer = tiny_encoder.tokenizer
    words = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("read the text"))
    vectors = vectors_of(lk.PromptTuning(virtual_tokens=3, text="read the text").apply(tiny_encoder))
    assert torch.equal(vectors, tiny_encoder.module.embeddings.word_embeddings.weight[words])


def test_two_prompts_live_on_one_base(causal, ids):
    start = outputs(causal.module, ids)
    first, second = trained(causal, METHOD), lk.PromptTuning(virtual_tokens=3, text="abc").apply(causal)
    alone = outputs(first.module, ids)
    with torch.no_grad():
        vectors_of(second).add_(1)
    assert torch.equal(outputs(first.module, ids), alone)
    assert torch.equal(outputs(causal.module, ids), start)
    theirs = {p.data_ptr() for p in causal.module.parameters()}
    assert all({p.data_ptr() for p in tuned.module.parameters()} > theirs for tuned in (first, second))


def test_a_copy_has_a_prompt_of_its_own(causal, ids):
    tuned = trained(causal, METHOD)
    before = outputs(tuned.module, ids)
    other = tuned.copy(share_weights=False)
    assert torch.equal(outputs(other.module, ids), before)
    with torch.no_grad():
        vectors_of(other).add_(1)
    assert torch.equal(outputs(tuned.module, ids), before)
    assert not torch.equal(outputs(other.module, ids), before)


def test_inplace_adapts_the_model_itself(ids):
    model = make("llama")
    expected = outputs(METHOD.apply(model).module, ids)
    assert METHOD.apply(model, inplace=True) is model
    assert torch.equal(outputs(model.module, ids), expected)


@pytest.mark.parametrize("fixture", ["tiny", "tiny_encoder"])
def test_gradient_checkpointing_changes_no_result(request, colours, fixture):
    base = request.getfixturevalue(fixture)
    runs = [lk.finetune(base, colours, METHOD, gradient_checkpointing=saving, **QUICK) for saving in (False, True)]
    one, two = (next(iter(run.model.trainable().values())) for run in runs)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    assert runs[1].memory.peak < runs[0].memory.peak


# On disk


def test_a_loaded_prompt_answers_bit_for_bit_alike(model, ids, tmp_path):
    tuned = trained(model, METHOD)
    METHOD.save(tuned, tmp_path)
    loaded = METHOD.load(model, tmp_path)
    assert torch.equal(outputs(loaded.module, ids), outputs(tuned.module, ids))
    assert loaded.trainable().keys() == tuned.trainable().keys()


def test_peft_reads_what_is_saved(model, ids, mask, tmp_path):
    tuned = trained(model, METHOD)
    METHOD.save(tuned, tmp_path)
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(model.module), tmp_path).eval()
    expected = outputs(tuned.module, ids, mask)
    torch.testing.assert_close(outputs_of_twin(theirs, ids, mask), expected, atol=1e-6, rtol=1e-6)
    assert (expected - outputs(model.module, ids, mask)).abs().max() > 0.1


def test_what_peft_saves_is_read(model, ids, mask, tmp_path):
    twin, _ = peft_twin(model, trained(model, METHOD))
    twin.save_pretrained(tmp_path)
    ours = METHOD.load(model, tmp_path)
    expected = outputs_of_twin(twin, ids, mask)
    torch.testing.assert_close(outputs(ours.module, ids, mask), expected, atol=1e-6, rtol=1e-6)


def test_what_is_written_is_what_was_trained(causal, tmp_path):
    tuned = trained(causal, METHOD)
    METHOD.save(tuned, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert tensors.keys() == {"prompt_embeddings"}
    assert torch.equal(tensors["prompt_embeddings"], vectors_of(tuned))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["num_virtual_tokens"]) == ("llama", 5)


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


# Generation and padding


def continued(module, ids, **settings):
    settings = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False} | settings
    output = module.generate(input_ids=ids, pad_token_id=0, eos_token_id=None, **settings)
    return output[:, ids.shape[1] :]


@torch.no_grad()
def continued_by_hand(module, ids):
    """The likeliest tokens, for each of which everything is read anew."""
    text = ids
    for _ in range(8):
        text = torch.cat([text, module.eval()(input_ids=text).logits[:, -1:].argmax(dim=-1)], dim=1)
    return text[:, ids.shape[1] :]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("kind", CAUSAL)
def test_text_is_generated_alike_with_the_cache_and_without(kind, ids, use_cache):
    tuned = trained(make(kind), METHOD)
    expected = continued_by_hand(tuned.module, ids)
    assert torch.equal(continued(tuned.module, ids, use_cache=use_cache), expected)
    assert len(expected.unique()) > 3


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # by PEFT
def test_peft_generates_the_same_text(causal, ids):
    tuned = trained(causal, METHOD)
    twin, _ = peft_twin(causal, tuned)
    for beams in (1, 3):
        assert torch.equal(continued(tuned.module, ids, num_beams=beams), continued(twin, ids, num_beams=beams))
    assert not torch.equal(continued(tuned.module, ids), continued(causal.module, ids))


def test_texts_of_unlike_length_are_continued_as_each_alone(causal, ids):
    tuned = trained(causal, METHOD)
    left = torch.arange(13) >= torch.tensor([[0], [4], [8]])
    together = continued(tuned.module, ids * left, attention_mask=left.long())
    alone = [continued(tuned.module, row[seen][None]) for row, seen in zip(ids, left, strict=True)]
    assert torch.equal(together, torch.cat(alone))


def test_generate_continues_a_prompt(tiny):
    tuned = trained(tiny, METHOD)
    inputs = torch.tensor([tiny.tokenizer("The sky is")["input_ids"]])
    expected = tiny.tokenizer.decode(continued_by_hand(tuned.module, inputs)[0][:3], skip_special_tokens=True)
    assert tuned.generate("The sky is", max_new_tokens=3) == expected


def test_padding_changes_nothing(model, ids, mask):
    module = trained(model, METHOD).module
    together = outputs(module, ids, mask)
    for row, (text, seen) in enumerate(zip(ids, mask, strict=True)):
        alone = outputs(module, text[seen][None])
        torch.testing.assert_close(together[row, seen], alone[0], atol=1e-5, rtol=1e-5)


def test_there_is_an_output_for_each_token_of_the_text(causal, ids):
    module = METHOD.apply(causal).module
    whole = outputs(module, ids)
    assert whole.shape == (3, 13, 128)
    for kept in (1, 4, 13, torch.tensor([-3, -1])):
        expected = whole[:, kept] if torch.is_tensor(kept) else whole[:, -kept:]
        torch.testing.assert_close(module(input_ids=ids, logits_to_keep=kept).logits.detach(), expected)


def test_positions_may_be_given(causal, ids):
    module = METHOD.apply(causal).module
    given = {"input_ids": ids, "position_ids": torch.arange(13).expand(3, -1)}
    with torch.no_grad():
        torch.testing.assert_close(module(**given).logits, outputs(module, ids), atol=1e-6, rtol=1e-6)


def test_the_loss_is_that_of_the_outputs_of_all_tokens(causal, ids):
    tuned = trained(causal, METHOD)
    examples = [Example(ids[0].tolist(), 3), Example(ids[1, :9].tolist(), 2)]
    loss, count = completion_loss(tuned, collate(examples, 0, torch.device("cpu")))
    expected = 0.0
    for example in examples:
        logits = outputs(tuned.module, torch.tensor([example.tokens]))[0, -1 - example.learned : -1]
        expected += F.cross_entropy(logits, torch.tensor(example.tokens[-example.learned :]), reduction="sum").item()
    assert count == 5
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_sentences_vector_is_the_mean_over_the_tokens_of_the_text(ids, mask):
    model = make("bert")
    batch = collate([Example(row[seen].tolist(), 0) for row, seen in zip(ids, mask, strict=True)], 0, model.device)
    found = sentence_vectors(METHOD.apply(model), batch)
    read = outputs(model.module, *after_words(ids, mask))
    expected = torch.stack([row[5:][seen].mean(dim=0) for row, seen in zip(read, mask, strict=True)])
    torch.testing.assert_close(found.detach(), expected / expected.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-5)


# Stored in fewer bits


@pytest.mark.parametrize("backend", ["labkit", "bitsandbytes"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_over_4_bits_it_starts_as_if_the_words_stood_before_the_text(ids, mask, backend, precision):
    model = make("llama")
    model.precision = precision
    store_linear_weights(model.module, precision)
    base = lk.quantize_model(model, lk.Quantization(block_size=32, backend=backend))
    before = state(base)
    tuned = METHOD.apply(base)
    with base.autocast():
        expected = outputs(base.module, *after_words(ids, mask))[:, 5:]
        found = outputs(tuned.module, ids, mask)
        tuned.module(input_ids=ids)[0].float().square().mean().backward()
    tolerance = 1e-5 if precision == torch.float32 else 0.05
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    assert vectors_of(tuned).grad.abs().max() > 0
    assert equal(state(base), before)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "bert"])
def test_in_16_bits_it_computes_nearly_the_same(kind, ids, mask):
    model = make(kind)
    expected = outputs(METHOD.apply(model).module, ids, mask)
    model.precision = torch.bfloat16
    store_linear_weights(model.module, torch.bfloat16)
    tuned = METHOD.apply(model)
    with tuned.autocast():
        found = outputs(tuned.module, ids, mask)
    assert vectors_of(tuned).dtype == torch.float32
    assert F.cosine_similarity(found.float().flatten(), expected.flatten(), dim=0) > 0.999


# What is refused


@pytest.mark.parametrize("count", [0, -1, True, 2.5, "16", None])
def test_a_number_of_virtual_tokens_that_cannot_be_is_refused(count):
    with pytest.raises(lk.LabkitError, match=f"virtual_tokens must be a whole number from 1 up, not {count!r}"):
        lk.PromptTuning(virtual_tokens=count)


@pytest.mark.parametrize("init", ["randm", "Random", None])
def test_an_unknown_start_is_refused_with_the_valid_ones(init):
    with pytest.raises(
        lk.LabkitError, match=rf"no initialization of virtual tokens called '{init}'.*\n.*random, words"
    ):
        lk.PromptTuning(init=init)


def test_the_nearest_start_is_named():
    with pytest.raises(lk.LabkitError, match="Did you mean 'random'"):
        lk.PromptTuning(init="randm")


@pytest.mark.parametrize("text", ["", "  \n"])
def test_words_without_any_are_refused(text):
    with pytest.raises(lk.LabkitError, match=r"text is empty.*\n.*init=\"random\""):
        lk.PromptTuning(text=text)


@pytest.mark.parametrize("count", [64, 65])
def test_as_many_virtual_tokens_as_the_model_can_read_are_refused(causal, count):
    with pytest.raises(lk.LabkitError, match=f"{count} virtual tokens leave no room for a text: llama can read 64"):
        lk.PromptTuning(virtual_tokens=count).apply(causal)


@pytest.mark.parametrize("kind", ["llama", "opt", "bert", "distilbert", "roberta"])
def test_a_text_may_fill_the_rest_of_what_the_model_can_read_and_no_more(kind):
    room = 58 if kind == "roberta" else 59  # RoBERTa's first position is number 1: behind that of padding
    module = METHOD.apply(make(kind)).module
    assert outputs(module, torch.full((1, room), 7)).isfinite().all()
    with pytest.raises(
        lk.LabkitError, match=rf"5 virtual tokens and a text of {room + 1} are more than the {room + 5} that"
    ) as caught:
        outputs(module, torch.full((1, room + 1), 7))
    assert f"max_length={room}," in caught.value.remedy


def test_a_run_on_longer_texts_says_how_long_they_may_be(tiny, colours):
    method = lk.PromptTuning(virtual_tokens=505)
    with pytest.raises(lk.LabkitError, match=r"505 virtual tokens and a text of \d+ .*\n.*max_length=7,"):
        lk.finetune(tiny, colours, method, **QUICK)
    assert lk.finetune(tiny, colours, method, max_length=7, **(QUICK | {"steps": 1})).history


def test_a_text_that_evaluation_cuts_leaves_room_for_the_prompt(tiny_encoder):
    assert lk.label_probabilities(METHOD.apply(tiny_encoder), ["grass " * 600], ["a", "b"]).shape == (1, 2)


def test_merging_is_refused(causal):
    with pytest.raises(lk.LabkitError, match=r"A Prompt cannot be merged.*\n.*LoRA and IA3 can"):
        lk.merge(METHOD.apply(causal))


@pytest.mark.parametrize(
    "apply",
    [METHOD.apply, lk.PrefixTuning().apply, lk.LoRA().apply, lk.FullFineTuning().apply, lk.quantize_model],
    ids=["prompt", "prefix", "lora", "full", "quantize"],
)
def test_nothing_is_put_onto_a_prompt(causal, apply):
    with pytest.raises(lk.LabkitError, match="llama has an adapter already"):
        apply(METHOD.apply(causal))


def test_a_prompt_is_not_put_onto_an_adapter(causal):
    with pytest.raises(lk.LabkitError, match="llama has an adapter already"):
        METHOD.apply(lk.LoRA().apply(causal))
