import json
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from quick_runs import QUICK, equal, outputs, state

import labkit as lk
from labkit.evaluation import label_probabilities
from labkit.planning import Step, predict_step
from labkit.runs import describe
from labkit.tasks.task import Task
from labkit.training.batching import Example


@pytest.fixture
def ids():
    return torch.arange(200, 239).view(3, 13)


@pytest.mark.parametrize("method", ["full", "lora", lk.QLoRA(block_size=32)])
def test_the_model_it_starts_from_is_left_as_it_was(tiny, colours, ids, method):
    before, logits = state(tiny), outputs(tiny, ids)
    run = lk.finetune(tiny, colours, method, **QUICK)
    assert equal(state(tiny), before)
    assert torch.equal(outputs(tiny, ids), logits)
    assert not torch.equal(outputs(run.model, ids), logits)
    assert tiny.head is None
    assert all(p.requires_grad and p.grad is None for p in tiny.module.parameters())


@pytest.mark.parametrize("method", ["full", "lora", lk.QLoRA(block_size=32)])
def test_an_encoder_is_left_as_it_was(tiny_encoder, colours, ids, method):
    before = state(tiny_encoder)
    run = lk.finetune(tiny_encoder, colours, method, **QUICK)
    assert equal(state(tiny_encoder), before)
    assert tiny_encoder.head is None
    assert run.model.head.weight.shape == (4, 32)
    assert run.labels == colours.labels == (" black", " blue", " green", " white")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_trained_head_is_not_changed_by_the_next_run(tiny_encoder, colours, method):
    first = lk.finetune(tiny_encoder, colours, "full", **QUICK).model
    kept = first.head.weight.detach().clone()
    second = lk.finetune(first, colours, method, **QUICK).model
    assert torch.equal(first.head.weight, kept)
    assert not torch.equal(second.head.weight, kept)


def test_the_run_says_what_was_done(tiny, colours):
    run = lk.finetune(tiny, colours, lk.LoRA(rank=2), steps=3, batch_size=4, seed=5, progress=False)
    assert run.method == lk.LoRA(rank=2)
    assert run.config == lk.TrainingConfig(steps=3, batch_size=4, seed=5, learning_rate=lk.LoRA().learning_rate)
    assert run.base == describe(tiny)
    assert run.task == "your dataset"
    assert run.labels == ()  # a causal model writes its answers and has no list of classes
    assert len(run.history) == 3


def test_trained_parameters_are_counted(tiny, tiny_encoder, colours):
    full = lk.finetune(tiny, colours, "full", **QUICK)
    assert full.trained_parameters == sum(p.numel() for p in tiny.parameters())
    # Two blocks of q (32×32), k and v (32×16), o (32×32), gate and up (32×64) and down (64×32).
    sides = 2 * (64 + 48 + 48 + 64 + 96 + 96 + 96)
    assert lk.finetune(tiny, colours, lk.LoRA(rank=2), **QUICK).trained_parameters == 2 * sides
    method = lk.LoRA(rank=2, target_modules=("query",))
    assert lk.finetune(tiny_encoder, colours, method, **QUICK).trained_parameters == 2 * 2 * 64 + 4 * 32 + 4


@pytest.mark.parametrize("method", ["full", "lora"])
def test_inplace_changes_the_model_itself(tiny, colours, ids, method):
    pointers = {p.data_ptr() for p in tiny.module.parameters()}
    reference = lk.finetune(tiny, colours, method, **QUICK).model
    before = outputs(tiny, ids)
    run = lk.finetune(tiny, colours, method, inplace=True, **QUICK)
    assert run.model is tiny
    assert pointers <= {p.data_ptr() for p in tiny.module.parameters()}
    assert not torch.equal(outputs(tiny, ids), before)
    assert torch.equal(outputs(tiny, ids), outputs(reference, ids))


def test_two_adapters_live_on_one_base(tiny, colours, ids):
    base = outputs(tiny, ids)
    first = lk.finetune(tiny, colours, "lora", seed=1, **QUICK)
    alone = outputs(first.model, ids)
    second = lk.finetune(tiny, colours, lk.LoRA(rank=2), seed=2, **QUICK)

    assert torch.equal(outputs(first.model, ids), alone)
    assert torch.equal(outputs(tiny, ids), base)
    assert len({outputs(model, ids).sum().item() for model in (tiny, first.model, second.model)}) == 3
    shared = {p.data_ptr() for p in tiny.module.parameters()}
    for run in (first, second):
        mine = {p.data_ptr() for name, p in run.model.module.named_parameters() if "lora_" not in name}
        assert mine == shared


def test_an_unknown_setting_gets_the_nearest_name(tiny, colours):
    with pytest.raises(lk.LabkitError, match=r"no setting called 'learning_rat'.*\n.*'learning_rate'.*batch_size"):
        lk.finetune(tiny, colours, learning_rat=1e-3)


def test_an_unknown_method_lists_those_there_are(tiny, colours):
    names = "bottleneck, full, head, ia3, lora, prefix, prompt, qlora"
    with pytest.raises(lk.LabkitError, match=rf"no method called 'qlorra'.*\n.*'qlora'.*Valid names: {names}"):
        lk.finetune(tiny, colours, "qlorra")


def test_a_bad_setting_is_named_before_anything_is_done(tiny, colours, tmp_path):
    with pytest.raises(lk.LabkitError, match="steps must be a whole number"):
        lk.finetune(tiny, colours, steps=0, checkpoints=tmp_path / "points")
    assert not (tmp_path / "points").exists()


WORDS = {"animal": "cat dog cow pig hen fox bee ant owl rat", "tool": "saw axe hoe pen nut jack file drill lamp rope"}
ROWS = [{"prompt": f"{word}:", "completion": kind} for kind, words in WORDS.items() for word in words.split()]


@pytest.mark.parametrize("kind", ["Dataset", "jsonl"])
def test_data_of_ones_own_goes_all_the_way(tiny, tmp_path, kind):
    if kind == "Dataset":
        data = Dataset.from_list(ROWS)
    else:
        data = tmp_path / "mine.jsonl"
        data.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    task = lk.load_task(data, train=10, test=4)
    run = lk.finetune(tiny, task, "full", **{**QUICK, "steps": 15})
    result = lk.evaluate(run.model, task)
    assert result.total == 4
    assert set(result.per_class) == {"animal", "tool"}
    assert run.history[-1]["loss"] < 0.6 * run.history[0]["loss"]


def test_an_encoder_cannot_learn_free_text(tiny_encoder):
    rows = [{"prompt": f"{a * 3} {a * 4}:", "completion": f"{a * 5} {a * 6}"} for a in "abcdefghijklmnopqrst"]
    task = lk.load_task(Dataset.from_list(rows), train=8, test=4)
    with pytest.raises(lk.LabkitError, match="tiny-encoder is an encoder: it learns classes, not text"):
        lk.finetune(tiny_encoder, task, **QUICK)


def test_an_encoder_cannot_rehearse_text(tiny_encoder, colours):
    with pytest.raises(lk.LabkitError, match="it learns classes, not text"):
        lk.finetune(tiny_encoder, colours, replay=["Cats sleep for most of the day."], **QUICK)


def test_an_untrained_head_starts_as_the_zero_shot_classifier(tiny_encoder, colours):
    before = label_probabilities(tiny_encoder, colours.test["prompt"], colours.labels)
    run = lk.finetune(tiny_encoder, colours, "lora", **{**QUICK, "steps": 1, "learning_rate": 1e-12})
    after = label_probabilities(run.model, colours.test["prompt"], colours.labels)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)


def test_a_head_for_other_classes_is_refused(tiny_encoder, colours):
    rows = [{"prompt": f"{a * 3} {a * 4}:", "completion": "yes" if a < "k" else "no"} for a in "abcdefghijklmnopqrst"]
    task = lk.load_task(Dataset.from_list(rows), train=8, test=4)
    tuned = lk.finetune(tiny_encoder, colours, "lora", **QUICK).model
    for use in (lambda: lk.evaluate(tuned, task), lambda: lk.finetune(tuned, task, "lora", **QUICK)):
        with pytest.raises(lk.LabkitError, match=r"tell 4 classes apart; here there are 2"):
            use()


def test_resuming_needs_the_folder_of_the_checkpoints(tiny, colours):
    with pytest.raises(lk.LabkitError, match="resume=True needs"):
        lk.finetune(tiny, colours, steps=1, resume=True, progress=False)


# Memory


@pytest.mark.parametrize(
    ("name", "method", "settings"),
    [
        ("tiny", "full", {}),
        ("tiny", lk.QLoRA(rank=2, block_size=32), {"accumulation": 2}),
        ("tiny", "lora", {"gradient_checkpointing": True}),
        ("tiny_encoder", "full", {}),
        ("tiny_encoder", lk.LoRA(rank=2), {"batch_size": 12}),
    ],
)
def test_the_memory_of_a_run_is_predicted_from_the_same_arguments(request, colours, name, method, settings):
    model = request.getfixturevalue(name)
    settings = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2} | settings
    report = lk.predict_memory(model, colours, method, **settings)
    run = lk.finetune(model, colours, method, progress=False, **settings)
    assert report.peak == pytest.approx(run.memory.peak, rel=5e-3)
    for kind in ("trainable", "frozen", "quantized", "optimizer"):
        assert getattr(report, kind) == getattr(run.memory, kind)


def test_replay_that_is_longer_decides_on_the_memory(tiny, colours):
    settings = {"steps": 4, "batch_size": 2, "replay_every": 2}
    replay = ["The quick brown fox jumps over the lazy dog and runs away. " * 4] * 4
    alone = lk.predict_memory(tiny, colours, **settings)
    report = lk.predict_memory(tiny, colours, replay=replay, **settings)
    run = lk.finetune(tiny, colours, replay=replay, progress=False, **settings)
    assert report.peak > 1.5 * alone.peak
    assert report.peak == pytest.approx(run.memory.peak, rel=5e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batchsize": 3}, "no setting called 'batchsize'"),
        ({"method": "qlorra"}, "no method called 'qlorra'"),
        ({"max_length": 2}, "has nothing to learn"),
    ],
)
def test_a_prediction_finds_the_mistakes_that_a_run_would(tiny, colours, settings, message):
    with pytest.raises(lk.LabkitError, match=message):
        lk.predict_memory(tiny, colours, **settings)


def test_an_encoder_is_not_predicted_on_text(tiny_encoder, colours):
    with pytest.raises(lk.LabkitError, match="learns classes, not text"):
        lk.predict_memory(tiny_encoder, colours, replay=["some text"])


def test_an_unknown_architecture_is_not_predicted(tiny, colours):
    tiny.module.config.model_type = "mamba"
    with pytest.raises(lk.LabkitError, match="no model type called 'mamba'"):
        lk.predict_memory(tiny, colours)


def test_an_empty_task_is_refused_at_once(tiny, tiny_encoder, colours):
    nothing = replace(colours, train=colours.train.select([]), test=colours.test.select([]))
    for model in (tiny, tiny_encoder):
        for call in (lk.finetune, lk.predict_memory):
            with pytest.raises(lk.LabkitError, match="your dataset has no training examples"):
                call(model, nothing)
        with pytest.raises(lk.LabkitError, match="your dataset has no test examples"):
            lk.evaluate(model, nothing)
    with pytest.raises(lk.LabkitError, match="texts in replay has two tokens"):
        lk.finetune(tiny, colours, replay=[""], **QUICK)


def test_what_was_learned_before_an_error_is_not_lost(tiny, colours):
    def fail(model, record, last):
        if record["step"] == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as stopped:
        lk.finetune(tiny, colours, callbacks=[fail], **QUICK)
    assert [row["step"] for row in stopped.value.run.history] == [1, 2]
    assert lk.evaluate(stopped.value.run.model, colours).total == 12


# Conversations


def test_conversations_are_encoded_as_such_and_may_be_packed(tiny, monkeypatch):
    """What encodes conversations has tests of its own; here, masks are made up."""
    asked = []

    def encode_conversations(model, conversations, max_length, learn):
        asked.append((len(conversations), max_length, learn))
        masks = [tuple(i > 0 and i % 3 != 1 for i in range(5 + number % 7)) for number in range(len(conversations))]
        return [Example([7 + i for i in range(len(mask))], sum(mask), mask=mask) for mask in masks]

    monkeypatch.setattr("labkit.preparation.encode_conversations", encode_conversations)
    turns = [{"role": "user", "content": "Say hi."}, {"role": "assistant", "content": "Hi."}]
    rows = Dataset.from_list([{"messages": turns, "prompt": "User: Say hi.\nAssistant:", "completion": "Hi."}] * 20)
    task = Task("chat", rows, rows, (), "made here")
    settings = {"learn": "all", "packing": True, "max_length": 40, "steps": 3, "batch_size": 2, "learning_rate": 1e-2}
    run = lk.finetune(tiny, task, "lora", progress=False, **settings)
    assert asked == [(20, 40, "all")]
    assert (run.config.packing, run.config.learn) == (True, "all")
    assert run.history[0]["tokens"] > 2 * 11  # more than one conversation in a row
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert lk.predict_memory(tiny, task, "lora", **settings).peak == pytest.approx(run.memory.peak, rel=5e-3)


def test_the_memory_of_learning_from_rewards_is_that_of_the_longest_prompts(tiny):
    rl, settings = lk.RL(group=2, prompts=2, max_new_tokens=4), {"steps": 4, "batch_size": 3}
    prompts = [[5] * count for count in (12, 3, 9, 5)]  # as they come, those of similar length together
    report = lk.predict_memory(tiny, prompts, rl=rl, **settings)
    examples = [Example([5] * count + [0] * 4, 4) for count in (9, 9, 12, 12)]
    step = Step(tiny.module.config, lk.LoRA(), lk.TrainingConfig(**settings), examples, torch.float32, rl=rl)
    assert report == predict_step(step).tensors
    copied = lk.predict_memory(tiny, prompts, rl=rl, reference_copy=True, **settings)
    assert copied.peak == pytest.approx(report.peak + tiny.nbytes, rel=1e-3)


def test_what_does_not_go_with_rewards_is_not_predicted(tiny, tiny_encoder):
    rl = lk.RL(max_new_tokens=4)
    for settings, message in [
        ({"rl": rl, "replay": ["a"]}, "replay doesn't go with rewards"),
        ({"rl": rl, "accumulation": 2}, "accumulation=2 doesn't go with rewards"),
        ({"rl": lk.RL(beta=0.1), "method": "full"}, "no reference is left"),
        ({"rl": "grpo"}, "rl is 'grpo'"),
        ({}, r"\['a'\] is no task"),
    ]:
        with pytest.raises(lk.LabkitError, match=message):
            lk.predict_memory(tiny, ["a"], **settings)
    with pytest.raises(lk.LabkitError, match="is an encoder"):
        lk.predict_memory(tiny_encoder, ["a"], rl=rl)


def test_learning_all_replies_needs_conversations(tiny, colours):
    with pytest.raises(lk.LabkitError, match=r"learn='all'.*none to learn[^$]*messages"):
        lk.finetune(tiny, colours, learn="all")
