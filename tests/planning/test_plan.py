import dataclasses
import itertools
import json

import pytest
import torch
from tiny import alike, tiny_config

import labkit as lk
from labkit.memory import KINDS, MemoryReport
from labkit.methods.method import METHODS
from labkit.planning import EstimateWarning, Prediction, Step, plan, predict, predict_step
from labkit.planning.allocator import CONTEXT, SHARED
from labkit.planning.estimate import estimate
from labkit.training.config import TrainingConfig

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = tiny_config(num_hidden_layers=1)


@pytest.fixture
def asked(monkeypatch):
    """Return the list of the steps to predict; every prediction has the same numbers."""
    calls = []
    parts = dict(zip(KINDS, (8_000_000_000, 0, 0, 16_000_000_000, 8_000_000_000, 3_000_000_000, 10, 0), strict=True))
    whole = MemoryReport(**parts)

    def answer(step):
        calls.append((step.config, step.method, step.training, step.examples, step.precision))
        return Prediction(whole, dataclasses.replace(whole, logits=512), dataclasses.replace(whole, logits=2**21))

    monkeypatch.setattr(plan, "predict_step", answer)
    return calls


def test_any_published_model_can_be_planned_with_any_method(asked):
    for name, method in zip(lk.BLUEPRINTS, itertools.cycle(METHODS), strict=False):
        made = lk.plan(name, method)
        config, used, training, examples, precision = asked.pop()
        assert (made.name, made.method.name, made.precision) == (name, method, torch.bfloat16)
        assert config.vocab_size == lk.BLUEPRINTS[name]["vocab_size"]
        assert used == METHODS[method]()
        assert training == TrainingConfig(batch_size=1, max_length=512)
        assert [(len(example.tokens), example.learned) for example in examples] == [(512, 511)]
        assert precision == torch.bfloat16


def test_a_published_model_is_simulated_with_adapters():
    made = lk.plan("qwen2.5-7b", "lora", length=64)
    assert made.simulated
    assert made.report.trainable == 4 * 20_185_088  # 28 blocks of rank 8
    assert made.report.optimizer == pytest.approx(2 * made.report.trainable, rel=1e-3)
    assert made.peak > made.report.parameters + made.report.optimizer


def test_a_published_model_is_simulated_in_4_bits():
    made = lk.plan("gpt3-175b", "qlora", length=64)
    numbers = 96 * 12 * 12288**2  # four matrices of the attention, and two that are four times as large
    assert made.report.quantized == pytest.approx(numbers * (0.5 + 1 / 64 + 4 / 64 / 256), rel=1e-4)


def test_settings_are_passed_on(asked):
    method = lk.LoRA(rank=4)
    settings = {"batch_size": 3, "gradient_checkpointing": True, "accumulation": 2}
    made = lk.plan(SMALL, method, length=40, learned=7, precision="float32", **settings)
    ((config, used, training, examples, precision),) = asked
    assert config is SMALL
    assert used is made.method is method
    assert training == made.training == TrainingConfig(max_length=40, **settings)
    assert [(len(example.tokens), example.learned) for example in examples] == [(40, 7)] * 3
    assert precision == torch.float32


def test_a_plan_is_the_prediction_of_its_step():
    made = lk.plan(SMALL, "full", batch_size=2, length=16, learned=5, precision="float32")
    training = TrainingConfig(batch_size=2, max_length=16)
    expected = predict_step(Step(SMALL, lk.FullFineTuning(), training, alike(2, 16, 5), torch.float32))
    assert made.prediction == expected
    assert made.report == expected.tensors
    assert (made.peak, made.allocated) == (expected.tensors.peak, expected.allocated.peak)
    assert made.reserved == expected.reserved.peak + SHARED


# Rewards


def test_a_plan_of_rewards_is_of_all_replies(asked):
    rl = lk.RL("ppo", group=3, prompts=2, max_new_tokens=10)
    made = lk.plan(SMALL, length=40, batch_size=4, rl=rl)
    ((_, _, training, examples, _),) = asked
    assert training == made.training == TrainingConfig(max_length=40, batch_size=4)
    assert [(len(example.tokens), example.learned) for example in examples] == [(40, 10)] * 6
    assert made.heading == "llama, batch 4 × 40 tokens, bfloat16, ppo of 6 replies of 10"
    assert made.to_dict()["rl"]["algorithm"] == "ppo"
    copied = lk.plan(SMALL, length=40, preference="dpo", reference_copy=True)
    assert copied.heading == "llama, batch 1 × 40 tokens, bfloat16, with a copy as reference"


def test_a_step_reads_no_more_replies_at_once_than_there_are():
    made = lk.plan(SMALL, length=16, rl=lk.RL(group=2, prompts=2, max_new_tokens=4), gpu="24GB")
    assert made.peak == made.report.peak > 0
    assert made.largest_batch() == 4


def test_a_plan_of_rewards_that_cannot_be_is_refused():
    rl, sampled = lk.RL(max_new_tokens=16), lk.RL(max_new_tokens=4, sampling=lk.Sampling(top_p=0.9))
    for method, settings, message in [
        ("lora", {"rl": "grpo"}, r"rl is 'grpo'.*\n.*lk.RL"),
        ("lora", {"rl": rl}, r"In 16 tokens, a reply of 16 leaves no room for a prompt"),
        ("lora", {"rl": lk.RL(max_new_tokens=4), "learned": 4}, r"Of replies, all tokens are learned"),
        ("lora", {"rl": sampled}, r"top_p=0.9 leaves are kept, and nobody knows .*\n.*Set top_k"),
        ("lora", {"rl": lk.RL(max_new_tokens=4), "accumulation": 2}, "accumulation=2 doesn't go with rewards"),
        ("full", {"rl": lk.RL(max_new_tokens=4, beta=0.1)}, "With full, no reference is left"),
        ("lora", {"reference_copy": True}, "This run compares with no reference"),
        ("lora", {"reference_copy": "yes", "rl": lk.RL(max_new_tokens=4)}, "reference_copy must be True or False"),
    ]:
        with pytest.raises(lk.LabkitError, match=message):
            lk.plan(SMALL, method, length=16, **settings)
    with pytest.raises(lk.LabkitError, match="An encoder writes no replies"):
        lk.plan("minilm", length=16, rl=lk.RL(max_new_tokens=4))


# Models


def test_a_loaded_model_is_planned_for_as_it_is(asked, tiny):
    assert lk.plan(tiny).name == "tiny"
    assert asked[0][0] is tiny.module.config


def test_a_folder_is_planned_for_without_its_weights(asked, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMALL.to_dict()))
    assert lk.plan(str(tmp_path)).name == tmp_path.name
    assert asked[0][0].num_hidden_layers == 1


def test_a_folder_whose_model_brings_its_own_code_is_refused(tmp_path):
    settings = {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(lk.LabkitError, match="bring their own code are not run"):
        lk.plan(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(lk.LabkitError, match=r"no model called 'llama-65'.*\n.*'llama-65b'.*Valid names: .*smollm2"):
        lk.plan("llama-65")


def test_an_unknown_architecture_is_refused_at_once(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(lk.LabkitError, match=r"no model type called 'mamba'.*\n.*labkit can plan only for these"):
        lk.plan(str(tmp_path))


def test_an_encoder_can_be_planned(minilm):
    made = lk.plan("minilm", "full", batch_size=4, length=128, precision="float32")
    trained = sum(p.numel() for p in minilm.module.parameters()) + 2 * 384 + 2
    assert made.report.trainable == 4 * trained
    # The pooler is not used, so that no states are made for it.
    pooler = 384 * 384 + 384
    assert made.report.optimizer == pytest.approx(8 * (trained - pooler), rel=1e-4)


# Mistakes


def test_a_length_that_the_model_cannot_read_is_refused():
    for length in [1, 0, -5, 513, 16.0, "16", None, True]:
        with pytest.raises(lk.LabkitError, match=f"length must be a whole number from 2 to 512, not {length!r}"):
            lk.plan(SMALL, length=length)


def test_a_number_of_learned_tokens_that_cannot_be_is_refused():
    for learned in [0, -1, 16, 17, 1.5, "3"]:
        with pytest.raises(lk.LabkitError, match=f"learned must be a whole number from 1 to 15, not {learned!r}"):
            lk.plan(SMALL, length=16, learned=learned)


def test_a_mistake_is_found_when_the_plan_is_made():
    for settings, message in [
        ({"precision": "int8"}, r"no precision called 'int8'.*\n.*bfloat16, float16, float32"),
        ({"method": "qlorra"}, r"no method called 'qlorra'.*\n.*'qlora'"),
        ({"batchsize": 3}, r"no setting called 'batchsize'.*\n.*'batch_size'"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 up, not 0"),
        ({"optimizer": "sgd"}, "no optimizer called 'sgd'"),
        ({"gpu": "48 GG"}, r"no size or GPU called '48 GG'.*\n.*a100"),
        ({"gpu": "0GB"}, "'0GB' is no size of a"),
        ({"gpu": ""}, "no size or GPU called ''"),
        ({"method": lk.LoRA(rank=99)}, "rank=99 is more than model.layers.0.self_attn.q_proj can have"),
        ({"method": lk.LoRA(target_modules=["nosuch"])}, "No linear layer of this model is called 'nosuch'"),
    ]:
        with pytest.raises(lk.LabkitError, match=message):
            lk.plan(SMALL, **({"length": 16} | settings))


# A GPU


def test_what_a_card_holds_is_added_up(asked):
    made = lk.plan("llama-7b", gpu="48GB")
    assert (made.gpu, made.context) == (48 * 10**9, CONTEXT)
    assert made.peak == 35 * 10**9 + 10
    assert made.allocated == 35 * 10**9 + 512
    assert made.reserved == 35 * 10**9 + 2**21 + SHARED
    assert made.total == made.reserved + CONTEXT
    assert made.peak < made.allocated < made.reserved < made.total


@pytest.mark.parametrize("missing", [0, 1])
def test_a_run_fits_a_card_that_has_all_that_it_needs(asked, missing):
    total = lk.plan("llama-7b").total
    made = lk.plan("llama-7b", gpu=total - missing)
    assert made.fits == (not missing)
    assert ("does not fit into 35.6 GB: 35.63 GB needed" in str(made)) == bool(missing)
    assert ("\nfits into 35.6 GB: 35.63 GB needed" in str(made)) == (not missing)


def test_without_a_card_nothing_is_said_to_fit(asked):
    made = lk.plan("llama-7b")
    assert (made.gpu, made.fits, made.to_dict()["fits"]) == (0, False, None)
    assert "fit" not in str(made)
    for search in (made.largest_batch, made.largest_length):
        with pytest.raises(lk.LabkitError, match=r"no GPU to fit.*\n.*gpu="):
            search()


def test_qlora_of_65_billion_fits_48_gigabytes_and_full_fine_tuning_not_780():
    # Dettmers et al., 2023, arXiv:2305.14314, abstract.
    small_one = lk.plan("llama-65b", "qlora", length=512, gradient_checkpointing=True, gpu="48GB")
    large_one = lk.plan("llama-65b", "full", length=512, gradient_checkpointing=True, gpu="780GB")
    assert small_one.fits
    assert 35e9 < small_one.peak <= small_one.total < 48e9
    assert not large_one.fits
    assert large_one.peak > 780e9


def test_more_is_needed_for_more():
    base = {"length": 16, "precision": "float32"}
    one = lk.plan(SMALL, "full", **base)
    for more in ({"batch_size": 8}, {"length": 64}):
        assert lk.plan(SMALL, "full", **(base | more)).peak > one.peak
    many = base | {"batch_size": 16}
    assert lk.plan(SMALL, "full", **many, gradient_checkpointing=True).peak < lk.plan(SMALL, "full", **many).peak


@pytest.mark.parametrize(("method", "room"), [("full", 0.9e6), ("lora", 2e6)])
def test_the_largest_batch_fits_and_one_more_does_not(method, room):
    made = lk.plan(SMALL, method, length=16, gpu=CONTEXT + SHARED + int(room))
    most = made.largest_batch()
    assert most > 1
    fits = [lk.plan(SMALL, method, length=16, batch_size=count, gpu=made.gpu).fits for count in (most, most + 1)]
    assert fits == [True, False]


def test_the_largest_batch_is_found_from_below_and_from_above():
    found = [
        lk.plan(SMALL, "full", length=16, batch_size=n, gpu=CONTEXT + SHARED + 10**6).largest_batch() for n in (1, 20)
    ]
    assert found[0] == found[1] > 1


def test_no_text_is_longer_than_the_model_can_read():
    made = lk.plan(SMALL, length=16, gpu="24GB")
    assert made.longest == made.largest_length() == 512


def test_where_not_even_one_fits_the_answer_is_0():
    made = lk.plan(SMALL, length=16, batch_size=4, gpu="1MB")
    assert (made.fits, made.largest_batch(), made.largest_length()) == (False, 0, 0)


# What is shown


@pytest.mark.parametrize("gpu", [None, "T4", "36GB"])
def test_a_plan_as_json(asked, gpu):
    made = lk.plan("llama-7b", lk.LoRA(rank=4), batch_size=2, length=100, learned=10, gpu=gpu)
    record = json.loads(json.dumps(made.to_dict()))
    assert record == made.to_dict() | {"method": record["method"]}
    assert lk.methods.get_method(record["method"]) == lk.LoRA(rank=4)
    assert (record["model"], record["precision"], record["simulated"]) == ("llama-7b", "bfloat16", True)
    assert (record["batch_size"], record["length"], record["learned"]) == (2, 100, 10)
    assert list(record["tensors"]) == list(KINDS)
    assert sum(record["tensors"].values()) == record["peak"] == made.peak
    assert record["total"] == record["reserved"] + record["context"]
    assert record["gpu"] == (made.gpu if gpu else 0)
    assert record["fits"] == {None: None, "T4": False, "36GB": True}[gpu]


def test_a_plan_is_printed_with_what_it_is_made_of(asked):
    made = lk.plan("llama-7b", "full", batch_size=2, length=100, precision="float32", gradient_checkpointing=True)
    assert str(made).splitlines() == [
        "full on llama-7b, batch 2 × 100 tokens, float32, gradient checkpointing",
        "  trainable        8.00 GB",
        "  optimizer       16.00 GB",
        "  gradients        8.00 GB",
        "  activations      3.00 GB",
        "  tensors         35.00 GB at the peak of a step",
        "  reserved        35.03 GB by torch's allocator, about",
        "  context          0.60 GB by CUDA itself (assumed)",
    ]
    assert made.heading == "llama-7b, batch 2 × 100 tokens, float32, gradient checkpointing"
    assert lk.plan("llama-7b").heading == "llama-7b, batch 1 × 512 tokens, bfloat16"


def test_a_plan_cannot_be_changed(asked):
    made = lk.plan("llama-7b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.length = 3


# Without a simulation


def test_without_a_simulation_a_plan_is_an_estimate_and_says_so(monkeypatch):
    monkeypatch.setattr(predict, "SUPPORTED", False)
    with pytest.warns(EstimateWarning, match="estimate by formula"):
        made = lk.plan(SMALL, "full", batch_size=4, length=16, learned=5)
    training = TrainingConfig(batch_size=4, max_length=16)
    guess = estimate(Step(SMALL, lk.FullFineTuning(), training, alike(4, 16, 5), torch.bfloat16))
    assert made.prediction == Prediction(guess, guess, guess)
    assert not made.simulated
    assert made.to_dict()["simulated"] is False
    monkeypatch.undo()
    assert made.simulated


@pytest.mark.filterwarnings("ignore::labkit.planning.EstimateWarning")
def test_a_search_without_a_simulation_finds_what_fits_by_the_formula(monkeypatch):
    monkeypatch.setattr(predict, "SUPPORTED", False)
    room = CONTEXT + SHARED + 3 * 10**6
    most = lk.plan(SMALL, "full", length=16, gpu=room).largest_batch()
    fits = [lk.plan(SMALL, "full", length=16, batch_size=count, gpu=room).fits for count in (most, most + 1)]
    assert fits == [True, False]
