import json
from dataclasses import fields

import pytest
from tiny_sweep import rows, run_all, setting

import labkit as lk
from labkit.comparisons import point
from labkit.comparisons.point import Point
from labkit.comparisons.sweeps import points
from labkit.methods import METHODS, get_method
from labkit.tasks.quality import altered


@pytest.mark.parametrize("name", METHODS)
def test_a_point_has_all_settings_of_its_method_but_the_default_rate(sweep, name):
    sweep(setting(0, method=name))
    (made,) = points("tiny")
    assert made.method.keys() == {"name", *(f.name for f in fields(METHODS[name]))} - {"learning_rate"}
    assert get_method(made.method) == METHODS[name]()
    assert made.learning_rate == 0.01


def test_held_out_examples_are_what_a_row_counts_and_are_not_learned(
    sweep, asked, folder, tiny_encoder, colours, monkeypatch
):
    asked(tiny_encoder)
    seen = []
    watch_tasks(monkeypatch, seen)
    sweep({**setting(0, method="head"), "held_out": 5}, setting(0, method="head"))
    (_, _, row), _ = run_all()
    assert (row["total"], len(row["hits"]), row["test"], row["held_out"]) == (5, 5, 12, 5)
    searched, whole = seen
    assert sorted([*searched.train, *searched.test], key=str) == sorted(colours.train, key=str)
    assert len(searched.train) == 24 - 5
    assert whole is colours


def watch_tasks(monkeypatch, seen):
    def measured(base, task, *rest, **options):
        seen.append(task)
        return original(base, task, *rest, **options)

    original = point.measured
    monkeypatch.setattr(point, "measured", measured)


def test_changed_data_are_what_a_run_learns_and_its_costs_are_left_out(
    sweep, asked, folder, tiny_encoder, colours, monkeypatch
):
    asked(tiny_encoder)
    seen = []
    watch_tasks(monkeypatch, seen)
    data = {"amount": 8, "noise": 0.5}
    sweep({**setting(3, method="head"), "data": data}, setting(3, method="head"))
    (_, _, changed), (_, _, whole) = run_all()
    assert seen[0].train.to_list() == altered(colours, **data, seed=3).train.to_list()
    assert seen[0].test is colours.test
    assert changed["data"] == data
    assert whole["data"] == {}
    assert whole.keys() - changed.keys() == {"adapter_bytes", "predicted_bytes", "drift", "latency", "merged_latency"}
    assert changed.keys() < whole.keys()


def test_a_row_without_changed_data_reads_as_before(sweep, ran, folder):
    run_all()
    (old, *_), (wanted, *_) = rows(folder), points("tiny")
    del old["data"], old["held_out"]
    assert Point.of_row(old) == wanted
    assert Point.of_row(old | {"data": float("nan")}) == wanted  # as pandas has it beside rows with data


@pytest.mark.parametrize(
    ("model", "method"),
    [("tiny", lk.LoRA(rank=2, target_modules=("o_proj", "down_proj"))), ("tiny_encoder", lk.FullFineTuning())],
    ids=["causal", "encoder"],
)
def test_a_row_is_what_finetune_and_evaluate_give(request, sweep, asked, folder, colours, model, method):
    model = request.getfixturevalue(model)
    tasks = asked(model)
    sweep(setting(5, method=method.to_dict(), rate=0.1))
    ((_, _, row),) = run_all()

    run = lk.finetune(model, colours, method, learning_rate=0.1, steps=2, batch_size=4, seed=5, progress=False)
    score = lk.evaluate(run.model, colours)
    assert (row["correct"], row["total"]) == (score.correct, 12)
    assert row["trained_parameters"] == sum(p.numel() for p in run.model.trainable().values())
    assert row["peak_bytes"] == run.memory.peak > row["parameter_bytes"] == run.memory.parameters
    if model.kind == "causal":
        texts = point.general_english()
        rise = lk.text_loss(run.model, texts) - lk.text_loss(model, texts)
        assert row["loss_rise"] == pytest.approx(rise, abs=1e-4)
        assert abs(rise) > 1e-3
    else:
        assert row["loss_rise"] is None
    assert row["seconds"] > 0
    assert row["made"]["precision"] == "float32"
    assert row["made"]["threads"] == 1
    assert tasks == [("colours", 24, 12)]
    assert model.head is None
    assert json.loads(json.dumps(row)) == row
