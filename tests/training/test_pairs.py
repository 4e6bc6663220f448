"""Pairs from messages to tokens, their log-probabilities, and runs that learn from them."""

import math
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from moved import trained
from torch.nn import functional as F

import labkit as lk
from labkit.conversations.masks import masked
from labkit.models.encoding import padding_id
from labkit.training import loop
from labkit.training import reference as module
from labkit.training.batching import Example, collate
from labkit.training.pair_objective import COLUMNS
from labkit.training.pairs import encode_pairs, log_probabilities, mismatched
from labkit.training.reference import reference_log_probabilities

ANIMALS = (("woof", "A dog.", "I can't say."), ("miaow", "A cat, of course.", "A dog."), ("moo", "A cow.", "Milk, no?"))
SETTINGS = {"steps": 4, "batch_size": 2, "learning_rate": 1e-2, "progress": False}
METHODS = {
    "LoRA": lk.LoRA(rank=2, dropout=0.5),
    "DoRA": lk.LoRA(rank=2, variant="dora"),
    "PiSSA": lk.LoRA(rank=2, variant="pissa"),
    "IA3": lk.IA3(),
    "bottleneck": lk.BottleneckAdapters(size=4),
    "prefix": lk.PrefixTuning(virtual_tokens=3),
    "prompt": lk.PromptTuning(virtual_tokens=3),
}


def user(text):
    return {"role": "user", "content": text}


def reply(text):
    return {"role": "assistant", "content": text}


def row(sound, good, bad):
    return {"prompt": [user(f"Which animal says {sound}?")], "chosen": [reply(good)], "rejected": [reply(bad)]}


ROWS = [row(*each) for each in ANIMALS]


def task_of(rows):
    data = Dataset.from_list(rows)
    return lk.Task("animals", data, data, (), "made here")


def weights(model):
    return {name: p.detach().clone() for name, p in model.module.named_parameters()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


# From messages to tokens


def test_tokens_equal_trls(tiny, tmp_path):
    pytest.importorskip("trl")
    from trl import DPOConfig, DPOTrainer

    config = DPOConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False)
    data = Dataset.from_list(ROWS)
    trainer = DPOTrainer(
        tiny.module,
        tiny.copy(share_weights=True).module,
        config,
        train_dataset=data,
        processing_class=tiny.tokenizer,
    )
    examples = encode_pairs(tiny, ROWS, 512)
    for theirs, *both in zip(trainer.train_dataset, examples[::2], examples[1::2], strict=True):
        for example, name in zip(both, ("chosen_ids", "rejected_ids"), strict=True):
            assert example.tokens == theirs["prompt_ids"] + theirs[name]
            assert example.mask == (False,) * len(theirs["prompt_ids"]) + (True,) * len(theirs[name])


def test_both_completions_of_a_pair_read_the_same_prompt_where_only_one_is_too_long(tiny):
    talk = [{"role": "system", "content": "Be brief."}, user("Hello there"), reply("Hi"), user("And now?")]
    long, short = "Now we go on, and on, and on, until it ends.", "Yes."
    rows = [{"prompt": talk, "chosen": [reply(short)], "rejected": [reply(long)]}]
    most = len(masked(tiny.tokenizer, [*talk, reply(long)]).ids) - 1
    assert len(masked(tiny.tokenizer, [*talk, reply(short)]).ids) <= most
    with pytest.warns(lk.TruncationWarning, match="lost its oldest turns"):
        both = encode_pairs(tiny, rows, most)
    for example, said in zip(both, (short, long), strict=True):
        assert example.tokens == masked(tiny.tokenizer, [talk[0], talk[3], reply(said)]).ids


def test_rows_that_cannot_be_used_are_named(tiny):
    good = ROWS[0]
    for bad, message in (
        ({"rejected": good["chosen"]}, "Row 2: Its chosen and its rejected completion are the same: 'A dog.'"),
        ({"chosen": [reply(" \n")]}, "Row 2: The chosen completion is empty"),
        ({"rejected": [reply(None)]}, "Row 2: The rejected completion is empty"),
        ({"chosen": "A dog."}, "Row 2: chosen is not a list of one message but 'A dog.'"),
        ({"chosen": [reply("A"), reply("dog")]}, "Row 2: chosen is not a list of one message"),
        ({"chosen": [user("A dog.")]}, "Row 2: .*two messages of the user in a row"),
        ({"prompt": [user("Hm?"), reply("Hm.")]}, "Row 2: The prompt ends with a reply"),
        ({"prompt": []}, "Row 2: The prompt is no list of messages"),
    ):
        with pytest.raises(lk.LabkitError, match=message):
            encode_pairs(tiny, [good, good | bad], 512)


# Log-probabilities


def batch_of(model, examples):
    return collate(examples, padding_id(model), model.device)


def test_log_probabilities_are_sums_over_the_completion_and_padding_changes_nothing(tiny):
    examples = encode_pairs(tiny, ROWS, 512)
    batch = batch_of(tiny, examples)
    sums, tokens = log_probabilities(tiny, batch)
    for example, total, count in zip(examples, sums, tokens, strict=True):
        logs = tiny.module(torch.tensor([example.tokens])).logits[0].log_softmax(-1)
        expected = sum(logs[i - 1, t] for i, t in enumerate(example.tokens) if example.mask[i])
        assert total.item() == pytest.approx(expected.item(), rel=1e-5)
        assert count == example.learned
        assert log_probabilities(tiny, batch_of(tiny, [example]))[0].item() == pytest.approx(total.item(), rel=1e-5)
    wide = replace(
        batch,
        input_ids=F.pad(batch.input_ids, (0, 9), value=7),
        attention_mask=F.pad(batch.attention_mask, (0, 9)),
        targets=F.pad(batch.targets, (0, 9), value=-100),
    )
    torch.testing.assert_close(log_probabilities(tiny, wide)[0], sums, rtol=1e-5, atol=1e-5)


def test_logits_are_computed_at_completions_alone(tiny):
    examples, sizes = encode_pairs(tiny, ROWS, 512), []
    handle = tiny.module.lm_head.register_forward_hook(lambda layer, args, output: sizes.append(output[..., 0].numel()))
    log_probabilities(tiny, batch_of(tiny, examples))
    handle.remove()
    assert sizes == [sum(example.learned for example in examples)]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_reference_is_the_model_without_its_adapter(tiny, method):
    examples = encode_pairs(tiny, ROWS, 512)
    base = reference_log_probabilities(tiny, examples)
    tuned = trained(tiny, method)
    tuned.module.train()  # as in the middle of a run
    assert torch.equal(reference_log_probabilities(tuned, examples), base)
    assert torch.equal(reference_log_probabilities(tuned, examples, reference=tiny), base)
    assert not torch.allclose(log_probabilities(tuned, batch_of(tiny, examples))[0], base, atol=1e-2)


def test_a_reference_of_another_vocabulary_is_refused(tiny, tiny_encoder):
    with pytest.raises(lk.LabkitError, match="tiny-encoder has another vocabulary than tiny"):
        reference_log_probabilities(tiny, encode_pairs(tiny, ROWS, 512), reference=tiny_encoder)


def test_mismatched_completions_come_after_prompts_of_other_pairs():
    def example(prompt, said):
        return Example([prompt] * 3 + [said] * 2, 2, mask=(False,) * 3 + (True,) * 2)

    pairs = [example(1, 11), example(1, 12), example(2, 21), example(2, 22)]
    both = mismatched(pairs, 512)
    assert [(e.tokens[0], e.tokens[-1]) for e in both] == [(1, 22), (1, 21), (2, 11), (2, 12)]
    assert [e.learned for e in mismatched(pairs, 4)] == [1] * 4


# Runs


def test_a_run_learns_what_is_preferred_and_records_it(tiny):
    run = lk.finetune(
        tiny, task_of(ROWS), "lora", **SETTINGS | {"steps": 12}, preference=lk.Preference("dpo", beta=0.1)
    )
    first, last = run.history[0], run.history[-1]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)  # the model is its own reference: log 2
    assert first["margin"] == pytest.approx(0, abs=1e-6)
    assert last["margin"] > 0.1
    assert last["pair_accuracy"] == 1.0
    assert last["margin"] == pytest.approx(last["chosen_reward"] - last["rejected_reward"], abs=1e-5)
    assert {*COLUMNS} < first.keys()
    examples = encode_pairs(tiny, ROWS, 512)
    assert first["tokens"] in {
        sum(len(e.tokens) for e in examples) - len(a.tokens) - len(b.tokens)
        for a, b in zip(examples[::2], examples[1::2], strict=True)
    }
    gap = log_probabilities(run.model, batch_of(tiny, examples))[0].view(-1, 2).diff().neg()
    assert (gap > log_probabilities(tiny, batch_of(tiny, examples))[0].view(-1, 2).diff().neg()).all()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_each_row_is_asked_of_the_reference_once_and_before_the_first_step(tiny, monkeypatch, method):
    asked, real = [], module.reference_log_probabilities

    def spy(model, examples, size):
        asked.append(len(examples))
        return real(model, examples, size)

    monkeypatch.setattr(module, "reference_log_probabilities", spy)
    run = lk.finetune(tiny, task_of(ROWS), method, **SETTINGS | {"steps": 9}, preference="dpo")
    assert sum(asked) == len(ROWS) * 2
    before = reference_log_probabilities(tiny, encode_pairs(tiny, ROWS, 512)).view(-1, 2).mean(dim=0)
    row = run.history[0]  # of two of the three pairs
    assert row["chosen_logp"] == pytest.approx(before[0].item(), rel=0.3)
    lk.finetune(tiny, task_of(ROWS), method, **SETTINGS, preference="simpo")
    assert sum(asked) == len(ROWS) * 2
    asked.clear()
    trainer = loop.Trainer(lk.methods.get_method(method).apply(tiny), encode_pairs(tiny, ROWS, 512), run.config)
    assert trainer.step(0)["chosen_logp"] == pytest.approx(row["chosen_logp"], rel=1e-5)
    assert asked == [2 * SETTINGS["batch_size"]]  # the proof of a kept run asks for one step alone


class CutError(Exception):
    """Stands for whatever ends a run before its time."""


@pytest.mark.parametrize(("method", "loss"), [("full", "dpo"), ("lora", "kto"), ("prefix", "orpo")])
def test_a_resumed_run_ends_like_one_that_never_stopped(tiny, tmp_path, method, loss):
    def cut(model, record, last):
        if record["step"] == 3:
            raise CutError

    preference = lk.Preference(loss, sft=0.5)
    settings = SETTINGS | {"steps": 5, "checkpoint_every": 2, "preference": preference}
    if method == "lora":
        method = lk.LoRA(rank=2, dropout=0.2)
    whole = lk.finetune(tiny, task_of(ROWS), method, **settings)
    with pytest.raises(CutError):
        lk.finetune(tiny, task_of(ROWS), method, checkpoints=tmp_path, callbacks=[cut], **settings)
    resumed = lk.finetune(tiny, task_of(ROWS), method, checkpoints=tmp_path, resume=True, **settings)
    assert equal(weights(resumed.model), weights(whole.model))
    assert [{**r, "seconds": 0} for r in resumed.history] == [{**r, "seconds": 0} for r in whole.history]
    for other in (lk.Preference(loss, beta=9.0, sft=0.5), "ipo"):
        with pytest.raises(lk.LabkitError, match=r"belongs to another run .*preference"):
            lk.finetune(
                tiny, task_of(ROWS), method, checkpoints=tmp_path, resume=True, **settings | {"preference": other}
            )


def test_a_run_is_kept_saved_and_loaded(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    settings = SETTINGS | {"preference": lk.Preference("kto", beta=0.3)}
    watch = lk.Every(2, lambda model: {"accuracy": 0.5})
    made = lk.finetune(tiny, task_of(ROWS), "lora", keep="pairs", callbacks=[watch], **settings)
    kept = lk.finetune(tiny, task_of(ROWS), "lora", keep="pairs", **settings)
    assert not made.kept
    assert kept.kept
    assert kept.history[0].keys() == made.history[0].keys()
    assert [r["margin"] for r in kept.history] == [r["margin"] for r in made.history]
    assert kept.config.preference == settings["preference"]
    assert not lk.finetune(tiny, task_of(ROWS), "lora", keep="pairs", **settings | {"preference": "dpo"}).kept
    made.save(tmp_path / "run")
    loaded = lk.load_run(tmp_path / "run", tiny)
    assert loaded.config == made.config
    assert equal(weights(loaded.model), weights(made.model))


def test_a_kept_run_of_all_weights_goes_on_with_its_first_reference(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    settings = SETTINGS | {"checkpoint_every": 2, "preference": "dpo"}
    whole = lk.finetune(tiny, task_of(ROWS), "full", **settings)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "step", stopped_at(3))
        with pytest.raises(CutError):
            lk.finetune(tiny, task_of(ROWS), "full", keep="pairs", **settings)
    resumed = lk.finetune(tiny, task_of(ROWS), "full", keep="pairs", **settings)
    assert equal(weights(resumed.model), weights(whole.model))
    assert [r["margin"] for r in resumed.history] == [r["margin"] for r in whole.history]


def stopped_at(last):
    """A Trainer's step that ends the run at a step, counted from 1, as the stop button does."""
    real = loop.Trainer.step

    def step(trainer, number, checkpoints=None):
        if number + 1 == last:
            raise CutError
        return real(trainer, number, checkpoints)

    return step


def test_the_memory_of_a_step_is_predicted(tiny):
    for loss in ("dpo", "kto"):
        run = lk.finetune(tiny, task_of(ROWS), "lora", **SETTINGS | {"steps": 2}, preference=loss)
        settings = {"steps": 2, "batch_size": 2, "preference": loss}
        assert lk.predict_memory(tiny, task_of(ROWS), "lora", **settings).peak == pytest.approx(
            run.memory.peak, rel=5e-3
        )


def test_what_does_not_suit_a_preference_is_refused(tiny, colours):
    pairs = task_of(ROWS)
    for task, settings, message in (
        (pairs, {}, "has pairs of a chosen and a rejected completion, and no loss"),
        (colours, {"preference": "dpo"}, "has no column 'chosen', and a preference needs"),
        (pairs, {"preference": "dpo", "replay": ["Some text."]}, "replay doesn't go with a preference"),
        (pairs, {"preference": "dpo", "learn": "all"}, "learn='all' doesn't go with a preference"),
        (pairs, {"preference": "dpp"}, "no preference loss called 'dpp'"),
    ):
        with pytest.raises(lk.LabkitError, match=message):
            lk.finetune(tiny, task, "lora", **SETTINGS | settings)
