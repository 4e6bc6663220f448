"""What prefix and prompt tuning have in common; the references are PEFT's, and the model that has read the words."""

import copy
import itertools
import json

import peft
import pytest
import torch
from letters import CAUSAL, TASKS, TEXT, after_words, make, outputs, table_of
from moved import trained
from safetensors.torch import load_file
from torch.nn import functional as F

import labkit as lk
from labkit.models.precision import store_linear_weights
from labkit.training.batching import Example, collate
from labkit.training.objectives import completion_loss

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = {"steps": 3, "batch_size": 4, "progress": False}
CONFIGS = {"prefix": peft.PrefixTuningConfig, "prompt": peft.PromptTuningConfig}


@pytest.fixture(params=[lk.PrefixTuning, lk.PromptTuning], ids=["prefix", "prompt"])
def tuning(request):
    return request.param


@pytest.fixture
def method(tuning):
    return tuning(virtual_tokens=5, text=TEXT)


@pytest.fixture(scope="module")
def causal():
    return make("llama")


@pytest.fixture(scope="module", params=["llama", "bert"])
def model(request):
    return make(request.param)


def peft_twin(method, model, tuned):
    """PEFT's model of the same numbers, and its table of them."""
    config = CONFIGS[method.name](num_virtual_tokens=5, task_type=TASKS[model.kind])
    twin = peft.get_peft_model(copy.deepcopy(model.module), config).eval()
    table = twin.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        table.copy_(table_of(tuned))
    return twin, table


@torch.no_grad()
def outputs_of_twin(twin, ids, mask):
    """PEFT's output for each token of the text; that of padding is set to zero."""
    output = twin.eval()(input_ids=ids, attention_mask=mask.long())[0]
    return output[:, -ids.shape[1] :] * mask[..., None]


def state(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_outputs_and_gradients_are_those_of_peft_with_the_same_numbers(method, model, ids, mask):
    for seen in (mask, torch.ones_like(mask)):
        tuned = trained(model, method)
        twin, table = peft_twin(method, model, tuned)
        found, expected = outputs(tuned.module, ids, seen), outputs_of_twin(twin, ids, seen)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)

        for module in (tuned.module, twin):
            output = module(input_ids=ids, attention_mask=seen.long())[0][:, -13:]  # without PEFT's virtual tokens
            F.cross_entropy(output[seen], ids[seen] % output.shape[-1], reduction="sum").backward()
        (ours,) = tuned.trainable().values()
        assert table.grad.abs().max() > 1e-2
        torch.testing.assert_close(ours.grad.flatten(1), table.grad, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("init", ["random", "words"])
def test_the_start_depends_on_the_seed_where_it_is_random(tuning, causal, init):
    def start(model, seed):
        torch.manual_seed(seed)
        return table_of(tuning(virtual_tokens=5, init=init).apply(model))

    first = start(causal, 3)
    assert torch.equal(start(causal, 3), first)
    assert torch.equal(start(causal, 4), first) == (init == "words")
    other = make("llama", initializer_range=0.1)
    assert torch.equal(start(other, 3), first) == (init == "random")


def test_a_random_start_is_drawn_from_the_normal_distribution(tuning, causal):
    torch.manual_seed(0)
    table = table_of(tuning(virtual_tokens=50, init="random").apply(causal))
    assert table.mean().item() == pytest.approx(0, abs=0.1)
    assert table.std().item() == pytest.approx(1, abs=0.05)


# What is trained


@pytest.mark.parametrize("fixture", ["tiny", "tiny_encoder"])
def test_a_run_trains_the_virtual_tokens_alone_and_comes_back_bit_for_bit(method, request, colours, tmp_path, fixture):
    base = request.getfixturevalue(fixture)
    before, layers = state(base), [name for name, _ in base.module.named_modules()]
    run = lk.finetune(base, colours, method, **QUICK)

    assert equal(state(base), before)
    assert [name for name, _ in base.module.named_modules()] == layers
    assert all(p.requires_grad and p.grad is None for p in base.module.parameters())
    after = state(run.model)
    assert after.keys() - before.keys() == {name for name in run.model.trainable() if not name.startswith("head.")}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())

    loaded = lk.load_run(run.save(tmp_path / "mine"), base)
    assert equal(state(loaded.model), after)
    assert not equal(state(method.apply(base)), after)
    prompts = colours.test["prompt"]
    one, two = (lk.evaluation.label_probabilities(each, prompts, colours.labels) for each in (run.model, loaded.model))
    assert torch.equal(one, two)
    assert loaded.method == method
    assert loaded.trained_parameters == run.trained_parameters


def test_two_methods_live_on_one_base(tuning, method, causal, ids):
    start = outputs(causal.module, ids)
    first, second = trained(causal, method), tuning(virtual_tokens=3, text="abc").apply(causal)
    alone = outputs(first.module, ids)
    with torch.no_grad():
        table_of(second).add_(1)
    assert torch.equal(outputs(first.module, ids), alone)
    assert torch.equal(outputs(causal.module, ids), start)
    theirs = {p.data_ptr() for p in causal.module.parameters()}
    assert all({p.data_ptr() for p in tuned.module.parameters()} > theirs for tuned in (first, second))


def test_a_copy_has_virtual_tokens_of_its_own(method, causal, ids):
    tuned = trained(causal, method)
    before = outputs(tuned.module, ids)
    other = tuned.copy(share_weights=False)
    assert torch.equal(outputs(other.module, ids), before)
    with torch.no_grad():
        table_of(other).add_(1)
    assert torch.equal(outputs(tuned.module, ids), before)
    assert not torch.equal(outputs(other.module, ids), before)


def test_inplace_adapts_the_model_itself(method, ids):
    model = make("llama")
    expected = outputs(method.apply(model).module, ids)
    assert method.apply(model, inplace=True) is model
    assert torch.equal(outputs(model.module, ids), expected)


# On disk


def test_what_is_loaded_answers_bit_for_bit_alike(method, model, ids, tmp_path):
    tuned = trained(model, method)
    method.save(tuned, tmp_path)
    loaded = method.load(model, tmp_path)
    assert torch.equal(outputs(loaded.module, ids), outputs(tuned.module, ids))
    assert loaded.trainable().keys() == tuned.trainable().keys()


def test_peft_reads_what_is_saved(method, model, ids, mask, tmp_path):
    tuned = trained(model, method)
    method.save(tuned, tmp_path)
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(model.module), tmp_path)
    expected = outputs(tuned.module, ids, mask)
    torch.testing.assert_close(outputs_of_twin(theirs, ids, mask), expected, atol=1e-6, rtol=1e-6)
    assert (expected - outputs(model.module, ids, mask)).abs().max() > 0.1


def test_what_peft_saves_is_read(method, model, ids, mask, tmp_path):
    twin, _ = peft_twin(method, model, trained(model, method))
    twin.save_pretrained(tmp_path)
    ours = method.load(model, tmp_path)
    torch.testing.assert_close(outputs(ours.module, ids, mask), outputs_of_twin(twin, ids, mask), atol=1e-6, rtol=1e-6)


def test_what_is_written_is_what_was_trained(method, causal, tmp_path):
    tuned = trained(causal, method)
    method.save(tuned, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert tensors.keys() == {"prompt_embeddings"}
    assert torch.equal(tensors["prompt_embeddings"], table_of(tuned))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["num_virtual_tokens"]) == ("llama", 5)


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


def test_text_is_generated_alike_with_the_cache_and_without(method, ids):
    for use_cache, kind in itertools.product([True, False], CAUSAL):
        tuned = trained(make(kind), method)
        expected = continued_by_hand(tuned.module, ids)
        assert torch.equal(continued(tuned.module, ids, use_cache=use_cache), expected)
        assert len(expected.unique()) > 3


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # by PEFT
def test_peft_generates_the_same_text(method, causal, ids):
    tuned = trained(causal, method)
    twin, _ = peft_twin(method, causal, tuned)
    for beams in (1, 3):
        assert torch.equal(continued(tuned.module, ids, num_beams=beams), continued(twin, ids, num_beams=beams))
    assert not torch.equal(continued(tuned.module, ids), continued(causal.module, ids))


def test_texts_of_unlike_length_are_continued_as_each_alone(method, causal, ids):
    tuned = trained(causal, method)
    left = torch.arange(13) >= torch.tensor([[0], [4], [8]])
    together = continued(tuned.module, ids * left, attention_mask=left.long())
    alone = [continued(tuned.module, row[seen][None]) for row, seen in zip(ids, left, strict=True)]
    assert torch.equal(together, torch.cat(alone))


def test_generate_continues_a_prompt(method, tiny):
    tuned = trained(tiny, method)
    inputs = torch.tensor([tiny.tokenizer("The sky is")["input_ids"]])
    expected = tiny.tokenizer.decode(continued_by_hand(tuned.module, inputs)[0][:3], skip_special_tokens=True)
    assert tuned.generate("The sky is", max_new_tokens=3) == expected


def test_padding_changes_nothing(method, model, ids, mask):
    module = trained(model, method).module
    together = outputs(module, ids, mask)
    for row, (text, seen) in enumerate(zip(ids, mask, strict=True)):
        alone = outputs(module, text[seen][None])
        torch.testing.assert_close(together[row, seen], alone[0], atol=1e-5, rtol=1e-5)


def test_positions_may_be_given(method, causal, ids):
    module = method.apply(causal).module
    given = {"input_ids": ids, "position_ids": torch.arange(13).expand(3, -1)}
    with torch.no_grad():
        torch.testing.assert_close(module(**given).logits, outputs(module, ids), atol=1e-6, rtol=1e-6)


def test_the_loss_is_that_of_the_outputs_of_all_tokens(method, causal, ids):
    tuned = trained(causal, method)
    examples = [Example(ids[0].tolist(), 3), Example(ids[1, :9].tolist(), 2)]
    loss, count = completion_loss(tuned, collate(examples, 0, torch.device("cpu")))
    expected = 0.0
    for example in examples:
        logits = outputs(tuned.module, torch.tensor([example.tokens]))[0, -1 - example.learned : -1]
        expected += F.cross_entropy(logits, torch.tensor(example.tokens[-example.learned :]), reduction="sum").item()
    assert count == 5
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_loss_by_transformers_is_that_of_peft(method, causal, ids):
    tuned = trained(causal, method)
    twin, _ = peft_twin(method, causal, tuned)
    labels = ids.where(ids % 5 > 0, -100)
    ours, theirs = (module(input_ids=ids, labels=labels).loss.item() for module in (tuned.module, twin))
    assert ours == pytest.approx(theirs, rel=1e-5)


# Stored in fewer bits


def test_over_4_bits_it_starts_as_if_the_words_had_been_read(method, ids, mask):
    for backend, precision in itertools.product(["labkit", "bitsandbytes"], [torch.float32, torch.bfloat16]):
        model = make("llama")
        model.precision = precision
        store_linear_weights(model.module, precision)
        base = lk.quantize_model(model, lk.Quantization(block_size=32, backend=backend))
        before = state(base)
        tuned = method.apply(base)
        with base.autocast():
            expected = outputs(base.module, *after_words(ids, mask))[:, 5:]
            found = outputs(tuned.module, ids, mask)
            tuned.module(input_ids=ids)[0].float().square().mean().backward()
        tolerance = 1e-5 if precision == torch.float32 else 0.05
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
        assert [p.grad.abs().max() > 0 for p in tuned.trainable().values()] == [True]
        assert equal(state(base), before)


def test_in_16_bits_it_computes_nearly_the_same(method, ids, mask):
    for kind in ["llama", "qwen3", "bert"]:
        model = make(kind)
        expected = outputs(method.apply(model).module, ids, mask)
        model.precision = torch.bfloat16
        store_linear_weights(model.module, torch.bfloat16)
        tuned = method.apply(model)
        with tuned.autocast():
            found = outputs(tuned.module, ids, mask)
        assert table_of(tuned).dtype == torch.float32
        assert F.cosine_similarity(found.float().flatten(), expected.flatten(), dim=0) > 0.999


# What is refused


def test_a_number_of_virtual_tokens_that_cannot_be_is_refused(tuning):
    for count in [0, -1, True, 2.5, "16", None]:
        with pytest.raises(lk.LabkitError, match=f"virtual_tokens must be a whole number from 1 up, not {count!r}"):
            tuning(virtual_tokens=count)


def test_an_unknown_start_is_refused_with_the_valid_ones(tuning):
    for init in ["wrds", "Random", None, 3]:
        with pytest.raises(
            lk.LabkitError, match=rf"no initialization of virtual tokens called '{init}'.*\n.*random, words"
        ):
            tuning(init=init)


def test_the_nearest_start_is_named(tuning):
    with pytest.raises(lk.LabkitError, match="Did you mean 'words'"):
        tuning(init="wrds")


def test_words_without_any_are_refused(tuning):
    for text in ["", "  \n"]:
        with pytest.raises(lk.LabkitError, match=r"text is empty.*\n.*init=\"random\""):
            tuning(text=text)


def test_a_random_start_needs_no_words(tuning):
    assert tuning(init="random", text="").init == "random"


def test_a_text_that_is_none_is_refused(tuning):
    for text in [None, 5]:
        with pytest.raises(lk.LabkitError, match="text"):
            tuning(text=text)


def test_a_text_without_tokens_is_refused(tuning, tiny_encoder):
    with pytest.raises(lk.LabkitError, match="text"):
        tuning(text="\u200b").apply(tiny_encoder)


def test_as_many_virtual_tokens_as_the_model_can_read_are_refused(tuning, causal):
    for count in [64, 65]:
        with pytest.raises(lk.LabkitError, match=f"{count} virtual tokens leave no room for a text: llama can read 64"):
            tuning(virtual_tokens=count).apply(causal)


def test_a_text_may_fill_the_rest_of_what_the_model_can_read_and_no_more(method):
    for kind in ["llama", "opt", "bert", "distilbert", "roberta"]:
        if kind == "distilbert" and method.name == "prefix":
            continue  # DistilBERT takes no keys and values.
        room = 58 if kind == "roberta" else 59  # RoBERTa's first position is number 1: behind that of padding
        module = method.apply(make(kind)).module
        assert outputs(module, torch.full((1, room), 7)).isfinite().all()
        with pytest.raises(
            lk.LabkitError, match=rf"5 virtual tokens and a text of {room + 1} are more than the {room + 5} that"
        ) as caught:
            outputs(module, torch.full((1, room + 1), 7))
        assert f"max_length={room}," in caught.value.remedy


def test_vectors_in_place_of_ids_are_refused(method, causal):
    with pytest.raises(lk.LabkitError, match=r"reads ids, and got none.*\n.*input_ids"):
        method.apply(causal).module(inputs_embeds=torch.zeros(1, 3, 32))


def test_a_run_on_longer_texts_cuts_them_to_the_room_beside_the_tokens(tuning, tiny, colours):
    with pytest.warns(lk.TruncationWarning, match="24 of 24 examples were longer than 7 tokens"):
        run = lk.finetune(tiny, colours, tuning(virtual_tokens=505), **QUICK)
    assert run.config.max_length == run.model.max_length == 7


def test_merging_is_refused(method, causal):
    with pytest.raises(lk.LabkitError, match=r"A Pr(efix|ompt) cannot be merged.*\n.*LoRA and IA3 can"):
        lk.merge(method.apply(causal))


def test_nothing_is_put_onto_virtual_tokens(method, causal):
    for apply in [
        lk.PrefixTuning().apply,
        lk.PromptTuning().apply,
        lk.LoRA().apply,
        lk.FullFineTuning().apply,
        lk.quantize_model,
    ]:
        with pytest.raises(lk.LabkitError, match="llama has an adapter already"):
            apply(method.apply(causal))


def test_virtual_tokens_are_not_put_onto_an_adapter(method, causal):
    with pytest.raises(lk.LabkitError, match="llama has an adapter already"):
        method.apply(lk.LoRA().apply(causal))
