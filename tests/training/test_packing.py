"""The reference for a packed row is each of its examples alone."""

import random
from dataclasses import replace
from itertools import chain

import pytest
import torch
from tiny import CAUSAL, tiny_model

import labkit as lk
from labkit.models.architectures import of_kind
from labkit.models.encoding import padding_id
from labkit.training.batching import IGNORED, Example, collate, encode
from labkit.training.loop import Trainer
from labkit.training.objectives import completion_loss, logits_at
from labkit.training.packing import join, pack, plan_rows
from labkit.training.schedule import Schedule

LENGTHS = random.Random(1).choices(range(5, 120), k=300)
PACKED = [name for name, known in of_kind("causal").items() if known.packed]
STRONG = {"initializer_range": 0.2, "init_std": 0.2}
WINDOWS = {"gemma2", "gemma3_text", "mistral", "phi3", "qwen2"}


def made_up(lengths, vocabulary=120, seed=0):
    rng = random.Random(seed)
    rows = [[rng.randrange(3, vocabulary) for _ in range(length)] for length in lengths]
    masks = [(False, *(rng.random() < 0.5 for _ in row[1:])) for row in rows]
    return [Example(row, sum(mask), mask=mask) for row, mask in zip(rows, masks, strict=True)]


def logits_of(model, batch):
    return logits_at(model, batch, torch.arange(batch.input_ids.shape[1]))


def alone(model, examples):
    """The logits of each example in a batch of its own."""
    batches = [collate([example], padding_id(model), model.device) for example in examples]
    return torch.cat([logits_of(model, batch)[0] for batch in batches])


def furthest(model, examples, **changes):
    """How far the logits of a packed row, padded in a batch with another row, are from those of its examples alone."""
    rows = [join(examples), join([*examples, examples[0]])]
    batch = replace(collate(rows, padding_id(model), model.device), **changes)
    with torch.no_grad():
        return (logits_of(model, batch)[0, : len(rows[0].tokens)] - alone(model, examples)).abs().max().item()


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.usefixtures("one_thread")
def test_packed_examples_do_not_see_each_other(kind):
    examples = made_up([5, 3, 1, 12, 7])
    for sizes in [{}, *([{"sliding_window": 4}] if kind in WINDOWS else [])]:
        model = tiny_model(kind, type("Reader", (), {"pad_token_id": 0}), **STRONG, **sizes)
        assert furthest(model, examples) < 1e-5
        assert furthest(model, examples, position_ids=None) > 0.1  # one text to the model


@pytest.mark.filterwarnings("ignore::labkit.TruncationWarning")
def test_packed_examples_do_not_see_each_other_in_a_real_model(smollm, triage):
    examples = encode(smollm, triage.train["prompt"][:4], triage.train["completion"][:4], 64)
    single = replace(smollm, module=smollm.copy(share_weights=False).module, precision=torch.float32)
    scale = alone(single, examples[:1]).abs().max().item()
    assert furthest(single, examples) < 1e-5 * scale
    assert furthest(single, examples, position_ids=None) > 0.1 * scale


@pytest.mark.parametrize("kind", sorted(CAUSAL.keys() - set(PACKED)))
@pytest.mark.usefixtures("one_thread")
def test_what_cannot_be_packed_is_refused(kind, colours):
    model = tiny_model(kind, type("Reader", (), {"pad_token_id": 0}), **STRONG)
    assert furthest(model, made_up([5, 3, 12])) > 0.1  # the reason
    with pytest.raises(lk.LabkitError, match=r"would see each other[^$]*packing=False[^$]*Llama"):
        lk.finetune(model, colours, packing=True)
    with pytest.raises(lk.LabkitError, match="would see each other"):
        Trainer(model, made_up([5]), lk.TrainingConfig(packing=True))


def test_methods_and_models_that_read_one_text_in_a_row_are_refused(tiny, tiny_encoder, colours):
    for method in ("prefix", "prompt"):
        for ask in (lk.finetune, lk.predict_memory):
            with pytest.raises(lk.LabkitError, match="Virtual tokens stand before a row"):
                ask(tiny, colours, method, packing=True)
    tuned = lk.PrefixTuning(virtual_tokens=2).apply(tiny)
    with pytest.raises(lk.LabkitError, match="Virtual tokens stand before a row"):
        lk.finetune(tuned, colours, packing=True)
    with pytest.raises(lk.LabkitError, match="encoder, which reads one text"):
        lk.finetune(tiny_encoder, colours, packing=True)
    with pytest.raises(lk.LabkitError, match="predict_memory"):
        lk.plan("llama-7b", packing=True)


def test_no_target_crosses_from_one_example_into_the_next():
    examples = [Example([5, 6, 7], 3), Example([8, 9], 1), Example([10, 11, 12], 1, mask=(False, True, False))]
    row = join(examples)
    assert row == Example(
        [5, 6, 7, 8, 9, 10, 11, 12], 4, mask=(False, True, True, False, True, False, True, False), parts=(3, 2, 3)
    )
    batch = collate([row, Example([13], 0)], 0, torch.device("cpu"))
    assert batch.targets[0].tolist() == [IGNORED, 6, 7, IGNORED, 9, IGNORED, 11, IGNORED]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 0, 1, 2], [0] * 8]
    assert join(examples[:1]) is examples[0]


@pytest.mark.parametrize("room", [119, 150, 500])
def test_every_example_is_in_one_row_that_has_room(room):
    rows = pack(LENGTHS, room)
    assert sorted(chain.from_iterable(rows)) == list(range(len(LENGTHS)))
    assert max(sum(LENGTHS[i] for i in row) for row in rows) <= room
    least = -(-sum(LENGTHS) // room)
    assert least <= len(rows) <= 11 / 9 * least + 4


def test_best_fit_is_best():
    assert pack([6, 2, 5, 4, 3], 10) == [[0, 3], [2, 4, 1]]
    assert pack([], 10) == []
    with pytest.raises(lk.LabkitError, match=r"11 tokens[^$]*max_length to 11"):
        pack([5, 11], 10)


def test_each_epoch_shows_each_example_once():
    rows = len(pack(LENGTHS, 128))
    plan = list(chain.from_iterable(plan_rows(LENGTHS, 128, 4, 3 * rows // 4 + 1, seed=0)))
    epochs = [plan[i * rows : (i + 1) * rows] for i in range(3)]
    for epoch in epochs[:2]:
        assert sorted(chain.from_iterable(epoch)) == list(range(len(LENGTHS)))
    assert {frozenset(row) for row in epochs[0]} != {frozenset(row) for row in epochs[1]}


def test_rows_depend_on_the_seed_alone():
    plan = plan_rows(LENGTHS, 128, 4, 30, seed=3)
    random.seed(99)
    assert plan_rows(LENGTHS, 128, 4, 90, seed=3)[:30] == plan
    assert plan_rows(LENGTHS, 128, 4, 30, seed=4) != plan
    for lengths, size in (([], 4), ([5, 5], 0)):
        with pytest.raises(lk.LabkitError, match="make no batch"):
            plan_rows(lengths, 128, size, 3, seed=0)


def test_a_schedule_has_rows_of_both_kinds_of_text():
    config = lk.TrainingConfig(steps=6, batch_size=3, accumulation=2, packing=True, max_length=128, replay_every=2)
    plan = Schedule(made_up(LENGTHS), made_up([60] * 20, seed=1), config)
    for step in range(6):
        batches = plan.batches(step)
        assert [len(batch) for batch in batches] == [3, 3]
        parts = {part for batch in batches for row in batch for part in row.parts or [len(row.tokens)]}
        assert (parts == {60}) == (step % 2 == 1)
        assert batches == plan.batches(step)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_packed_step_is_the_step_of_its_examples(tiny, checkpointing):
    """Gradients of all examples in one batch of one row, and in batches of their own."""
    examples = made_up([9, 4, 20, 6])
    packed = {"steps": 1, "batch_size": 1, "packing": True, "max_length": 64}
    apart = {"steps": 1, "batch_size": 1, "accumulation": 4}
    found = []
    for settings in (packed, apart):
        model = lk.FullFineTuning().apply(tiny)
        config = lk.TrainingConfig(**settings, gradient_checkpointing=checkpointing)
        record = Trainer(model, examples, config).step(0)
        found.append([record[key] for key in ("loss", "grad_norm", "tokens")])
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0][2] == 39


def test_a_packed_run_that_stopped_goes_on_as_if_it_had_not(tiny, colours, tmp_path):
    settings = {"steps": 6, "batch_size": 2, "packing": True, "max_length": 48, "checkpoint_every": 2, "seed": 5}
    settings |= {"learning_rate": 1e-2, "progress": False}
    whole = lk.finetune(tiny, colours, **settings)

    def stop(model, record, last):
        return record["step"] == 3

    lk.finetune(tiny, colours, callbacks=[stop], checkpoints=tmp_path / "c", **settings)
    for other in ({"packing": False}, {"max_length": 60}):  # other rows
        with pytest.raises(lk.LabkitError, match=rf"another run.*{next(iter(other))}"):
            lk.finetune(tiny, colours, checkpoints=tmp_path / "c", resume=True, **settings | other)
    run = lk.finetune(tiny, colours, checkpoints=tmp_path / "c", resume=True, **settings)
    assert [row["loss"] for row in run.history] == [row["loss"] for row in whole.history]
    for name, weight in whole.model.trainable().items():
        assert torch.equal(run.model.trainable()[name], weight)


def test_the_memory_of_a_packed_run_is_predicted(tiny, colours):
    settings = {"steps": 4, "batch_size": 2, "packing": True, "max_length": 64}
    report = lk.predict_memory(tiny, colours, **settings)
    run = lk.finetune(tiny, colours, progress=False, **settings)
    assert report.peak == pytest.approx(run.memory.peak, rel=5e-3)
    assert report.peak != pytest.approx(lk.predict_memory(tiny, colours, **settings | {"packing": False}).peak, rel=0.1)


def test_a_batch_may_mix_packed_rows_and_others(tiny):
    single, packed = made_up([9]), made_up([5, 3], seed=1)
    loss, count = completion_loss(tiny, collate([*single, join(packed)], 0, tiny.device))
    parts = [completion_loss(tiny, collate([example], 0, tiny.device)) for example in (*single, *packed)]
    assert count == sum(number for _, number in parts)
    assert loss.item() == pytest.approx(sum(part.item() for part, _ in parts), rel=1e-5)
