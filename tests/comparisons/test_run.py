import json
import math
import os
import threading
import time
from collections import Counter
from dataclasses import asdict, fields
from datetime import date

import pandas as pd
import pytest
from datasets import Dataset

import labkit as lk
from labkit.comparisons import run as bench
from labkit.comparisons import sweeps
from labkit.methods import METHODS, get_method
from labkit.storage import cache

SETTING = {"model": "tiny", "task": "colours", "steps": 2, "batch_size": 4, "train": 24, "test": 12}
LORA = {"name": "lora", "rank": 2, "target_modules": ("q_proj",)}
QUERY = {"name": "lora", "rank": 2, "target_modules": ("query",)}
# Files named gpu-CARD.json are make gpu's: test_gpu_dry.py looks at them.
STORED = [path for path in sorted((cache.course_data() / "results").glob("*.json")) if path.stem[:4] != "gpu-"]
PARTS = [field.name for field in fields(bench.Point)]
TIMES = ("seconds", "tokens_per_second", "latency", "merged_latency")


def setting(seed, method=LORA, rate=0.01):
    return {**SETTING, "method": method, "learning_rate": rate, "seed": seed}


@pytest.fixture
def sweep(monkeypatch):
    """Return a function that makes the sweep ``tiny`` consist of these settings."""

    def make(*settings):
        monkeypatch.setitem(sweeps.SWEEPS, "tiny", lambda: iter(settings))

    make(*map(setting, range(4)))
    return make


@pytest.fixture
def ran(monkeypatch):
    """Return the list of the seeds that were run: nothing is trained, and seeds in ``ran.bad`` fail."""

    class Seeds(list):
        bad = ()
        failure = KeyboardInterrupt()

    def run(point):
        if point.seed in seeds.bad:
            raise seeds.failure
        seeds.append(point.seed)
        return {"correct": 6 + point.seed, "total": 12, "loss_rise": None, "made": {"place": "Zürich"}}

    seeds = Seeds()
    monkeypatch.setattr(bench.Point, "run", run)
    return seeds


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of results, in a course of the test's own."""
    monkeypatch.setattr(cache, "course_data", lambda: tmp_path)
    return tmp_path / "results"


def rows(folder):
    return json.loads((folder / "tiny.json").read_text(encoding="utf-8"))["rows"]


def parts(row):
    return {part: ({"held_out": 0} | row)[part] for part in PARTS}


def run_all():
    return list(bench.bench("tiny"))


def test_each_run_is_stored_before_the_next_begins(sweep, ran, folder):
    for number, of, row in bench.bench("tiny"):
        assert of == 4
        assert ran == list(range(number))
        assert len(rows(folder)) == number
        assert rows(folder)[-1] == row
        assert os.listdir(folder) == ["tiny.json"]


def test_a_row_holds_the_point_and_what_was_measured(sweep, ran, folder):
    run_all()
    method = {"rank": 2, "target_modules": ["q_proj"], "alpha": 16, "dropout": 0.0, "rslora": False, "variant": "lora"}
    measured = {"correct": 9, "total": 12, "loss_rise": None, "made": {"place": "Zürich"}}
    assert rows(folder)[3] == {**setting(3), "held_out": 0, "method": {"name": "lora", **method}, **measured}


def test_the_file_says_which_command_made_it(sweep, ran, folder):
    run_all()
    assert json.loads((folder / "tiny.json").read_text(encoding="utf-8"))["command"] == "labkit bench tiny"


def test_what_is_stored_is_not_run_again(sweep, ran, folder):
    run_all()
    before = (folder / "tiny.json").read_bytes()
    assert run_all() == []
    assert ran == [0, 1, 2, 3]
    assert (folder / "tiny.json").read_bytes() == before


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RuntimeError(), lk.LabkitError("It rains.", "Wait.")])
def test_an_interrupted_sweep_goes_on_where_it_stopped(sweep, ran, folder, failure):
    ran.bad, ran.failure = [2], failure
    with pytest.raises(type(failure)):
        run_all()
    before = (folder / "tiny.json").read_bytes()
    assert [row["seed"] for row in rows(folder)] == [0, 1]
    assert os.listdir(folder) == ["tiny.json"]

    ran.bad = []
    assert [number for number, _, _ in run_all()] == [3, 4]
    assert ran == [0, 1, 2, 3]
    assert [row["seed"] for row in rows(folder)] == [0, 1, 2, 3]
    ending = b"\n ]\n}\n"
    assert before.endswith(ending)
    assert (folder / "tiny.json").read_bytes().startswith(before.removesuffix(ending))


def test_a_sweep_that_fails_at_once_leaves_nothing(sweep, ran, folder):
    ran.bad = [0]
    with pytest.raises(KeyboardInterrupt):
        run_all()
    assert not folder.exists()


def test_another_folder_may_hold_the_results(sweep, ran, folder, tmp_path):
    list(bench.bench("tiny", tmp_path / "deep" / "mine"))
    assert len(rows(tmp_path / "deep" / "mine")) == 4
    assert not folder.exists()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_parts_share_the_work(sweep, ran, tmp_path, count):
    for number in range(1, count + 1):
        before = len(ran)
        list(bench.bench("tiny", tmp_path / str(number), (number, count)))
        assert len(ran) - before in (4 // count, 4 // count + 1)
    assert sorted(ran) == [0, 1, 2, 3]


def test_what_another_part_adds_during_a_run_is_kept(sweep, monkeypatch, folder):
    def run(point):
        if point.seed == 0:
            list(bench.bench("tiny", part=(2, 2)))
        return {"correct": 1, "total": 2}

    monkeypatch.setattr(bench.Point, "run", run)
    assert [number for number, _, _ in bench.bench("tiny", part=(1, 2))] == [3, 4]
    assert [row["seed"] for row in rows(folder)] == [0, 1, 2, 3]  # in the sweep's order, whoever was first


def test_parts_that_store_at_the_same_time_lose_no_row(sweep, ran, monkeypatch, folder):
    def write(path, text):
        time.sleep(0.02)
        original(path, text)

    def run(point):
        both.wait(5)
        return {"correct": 1, "total": 2}

    original, both = cache.write_text, threading.Barrier(2)
    monkeypatch.setattr(cache, "write_text", write)
    monkeypatch.setattr(bench.Point, "run", run)
    threads = [threading.Thread(target=list, args=[bench.bench("tiny", part=(number, 2))]) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row["seed"] for row in rows(folder)) == [0, 1, 2, 3]


def test_a_part_that_begins_later_runs_what_the_other_leaves_out(sweep, ran, folder):
    first = bench.bench("tiny", part=(1, 2))
    next(first)
    list(bench.bench("tiny", part=(2, 2)))
    assert ran == [0, 1, 3]
    list(first)
    assert ran == [0, 1, 3, 2]


def test_an_interrupted_part_goes_on_with_its_own_points(sweep, ran, folder):
    list(bench.bench("tiny", part=(2, 2)))
    next(bench.bench("tiny", part=(1, 2)))
    assert ran == [1, 3, 0]
    assert [number for number, _, _ in bench.bench("tiny", part=(1, 2))] == [4]
    assert ran == [1, 3, 0, 2]


@pytest.mark.parametrize(
    "now",
    [
        [setting(2), setting(9)],
        [setting(2), setting(2, rate=0.02)],
        [setting(2), setting(2, method="full")],
        [setting(2), setting(2, method={**LORA, "alpha": 3})],
        [setting(2), {**setting(2), "steps": 3}],
        [setting(2)],
    ],
    ids=["seed", "rate", "method", "method's setting", "steps", "nothing new"],
)
def test_rows_of_an_older_sweep_are_dropped_and_the_others_kept(sweep, ran, folder, now):
    run_all()
    kept = rows(folder)[2]
    sweep(*now)
    assert len(run_all()) == len(now) - 1
    assert rows(folder)[0] == kept
    assert [parts(row) for row in rows(folder)] == [asdict(point) for point in bench.points("tiny")]


@pytest.mark.parametrize(
    "content",
    [b"", b'{"rows": [', b"[]", b"null", b"{}", b"\xff\xfe", b'{"rows": 3}', b'{"rows": [1]}', b'{"rows": [{}]}'],
)
@pytest.mark.parametrize(
    "reader",
    [run_all, lambda: list(bench.bench("tiny", part=(2, 2))), lambda: bench.results("tiny")],
    ids=["bench", "part", "results"],
)
def test_a_damaged_file_is_named_and_left_alone(sweep, ran, folder, content, reader):
    folder.mkdir()
    (folder / "tiny.json").write_bytes(content)
    with pytest.raises(lk.LabkitError) as caught:
        reader()
    assert str(folder / "tiny.json") in caught.value.cause
    assert "remove it" in caught.value.remedy
    assert (folder / "tiny.json").read_bytes() == content
    assert ran == []


def test_results_without_a_version_are_read_and_newer_ones_refused(sweep, ran, folder):
    run_all()
    path = folder / "tiny.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert (content["format"], content["version"]) == ("labkit results", 1)
    old = {"command": content["command"], "rows": content["rows"]}
    path.write_text(json.dumps(old), encoding="utf-8")
    before = path.read_bytes()
    assert run_all() == []
    assert len(lk.results("tiny")) == 4
    assert path.read_bytes() == before
    newer = json.dumps(content | {"version": 2, "rows": content["rows"][:1]})
    path.write_text(newer, encoding="utf-8")
    for reader in (run_all, lambda: lk.results("tiny")):
        with pytest.raises(lk.LabkitError, match="newer labkit"):
            reader()
    for foreign in ({"rows": old["rows"]}, old | {"command": "make tea"}, content | {"format": "labkit run"}):
        path.write_text(json.dumps(foreign), encoding="utf-8")
        with pytest.raises(lk.LabkitError, match="holds no results"):
            run_all()
        assert json.loads(path.read_text(encoding="utf-8")) == foreign


@pytest.mark.parametrize("name", sweeps.SWEEPS)
def test_points_equal_their_json_round_trip(name):
    for point in bench.points(name):
        assert bench.Point(**json.loads(json.dumps(asdict(point)))) == point


@pytest.mark.parametrize("name", sweeps.SWEEPS)
def test_points_say_what_the_sweep_says(name):
    for point, said in zip(bench.points(name), sweeps.SWEEPS[name](), strict=True):
        assert {**asdict(point), "method": 0} == {"held_out": 0, **said, "method": 0}
        for key, value in said["method"].items():
            assert point.method[key] == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize("name", METHODS)
def test_a_point_has_all_settings_of_its_method_but_the_default_rate(sweep, name):
    sweep(setting(0, method=name))
    (point,) = bench.points("tiny")
    assert point.method.keys() == {"name", *(f.name for f in fields(METHODS[name]))} - {"learning_rate"}
    assert get_method(point.method) == METHODS[name]()
    assert point.learning_rate == 0.01


@pytest.mark.parametrize("reader", [bench.points, lambda name: list(bench.bench(name))], ids=["points", "bench"])
def test_an_unknown_sweep_is_answered_with_those_there_are(reader):
    with pytest.raises(lk.LabkitError) as caught:
        reader("lora-rat")
    assert caught.value.cause == "There is no sweep called 'lora-rat'."
    assert "Did you mean 'lora-rate'?" in caught.value.remedy
    assert all(name in caught.value.remedy for name in sweeps.SWEEPS)


def test_an_unknown_result_is_answered_with_those_there_are(sweep, ran, folder):
    with pytest.raises(lk.LabkitError, match="no result called 'tiny'"):
        lk.results("tiny")
    run_all()
    with pytest.raises(lk.LabkitError, match="no result called 'tin'") as caught:
        lk.results("tin")
    assert "Valid names: tiny." in caught.value.remedy


def test_results_are_a_table_with_accuracy_and_settings(sweep, ran, folder):
    sweep(setting(0, method="full"), setting(3))
    run_all()
    table = lk.results("tiny")
    assert isinstance(table, pd.DataFrame)
    assert table["accuracy"].tolist() == [6 / 12, 9 / 12]
    assert table["name"].tolist() == ["full", "lora"]
    assert table["learning_rate"].tolist() == [0.01, 0.01]
    assert table["seed"].tolist() == [0, 3]
    assert math.isnan(table["method.rank"][0])
    assert table["method.rank"][1] == 2
    assert table["method.target_modules"][1] == ["q_proj"]
    assert table["made"][0] == {"place": "Zürich"}


def test_methods_of_the_showdown_have_labels_and_others_their_names(sweep, ran, folder):
    others = [LORA, {**sweeps.SHOWDOWN["LoRA r=4"], "dropout": 0.1}, {"name": "prefix", "virtual_tokens": 3}]
    sweep(*(setting(0, method=method) for method in [*sweeps.SHOWDOWN.values(), *others]))
    run_all()
    assert lk.results("tiny")["label"].tolist() == [*sweeps.SHOWDOWN, "lora", "lora", "prefix"]


@pytest.fixture
def old(sweep, ran, folder):
    """Store a row of each point, and return a function that takes what came later out of the first ``count``."""
    run_all()

    def make(count):
        content = json.loads((folder / "tiny.json").read_text(encoding="utf-8"))
        for row in content["rows"][:count]:
            del row["held_out"]
        (folder / "tiny.json").write_text(json.dumps(content), encoding="utf-8")

    return make


def test_old_rows_are_points_with_nothing_held_out(old, ran, folder):
    old(4)
    before = (folder / "tiny.json").read_bytes()
    assert run_all() == []
    assert (folder / "tiny.json").read_bytes() == before
    assert ran == lk.results("tiny")["seed"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [4, 1])
def test_old_rows_can_be_repeated(old, monkeypatch, count):
    old(count)
    monkeypatch.setattr(bench.Point, "run", lambda point: point)
    repeated = [lk.repeat(row) for _, row in lk.results("tiny").iterrows()]
    assert repeated == bench.points("tiny")


def test_the_table_of_an_unfinished_sweep_has_the_rows_so_far(sweep, ran, folder):
    next(bench.bench("tiny"))
    assert lk.results("tiny")["seed"].tolist() == [0]


@pytest.fixture
def asked(monkeypatch, colours):
    """The tasks that were asked for; every one is the task of colours, and models are those given to ``use``."""
    seen = []

    def load_task(name, *, train, test):
        seen.append((name, train, test))
        return colours

    def use(model):
        monkeypatch.setattr(bench, "load_model", {"tiny": model}.__getitem__)
        return seen

    def forget():
        for kept in (bench._model, bench._task, bench._english):
            kept.cache_clear()

    forget()
    monkeypatch.setattr(bench, "load_task", load_task)
    texts = lk.general_english(3)  # instead of 32, to be quick
    for module in ("comparisons.run", "comparisons.measures", "evaluation.vectors"):
        monkeypatch.setattr(f"labkit.{module}.general_english", lambda: texts)
    monkeypatch.setattr(
        "labkit.comparisons.measures.latency_ratio", lambda *args: lk.evaluation.latency_ratio(*args, repeats=1)
    )
    yield use
    forget()


def held_out_of(task, count, sweep, asked, tiny_encoder, monkeypatch):
    """The task that is learned where so many examples of it are held out, and where none are."""
    asked(tiny_encoder)
    tasks = []
    monkeypatch.setattr(bench, "load_task", lambda name, **sizes: task)
    monkeypatch.setattr(bench, "measured", lambda base, task, *settings: tasks.append(task) or {})
    sweep({**setting(0, method="head"), "held_out": count}, setting(0, method="head"))
    run_all()
    return tasks


@pytest.mark.parametrize("count", [1, 5, 7, 12, 23])
def test_training_examples_are_held_out_and_no_others(count, sweep, asked, folder, colours, tiny_encoder, monkeypatch):
    searched, whole = held_out_of(colours, count, sweep, asked, tiny_encoder, monkeypatch)
    assert whole is colours
    assert (len(searched.train), len(searched.test)) == (24 - count, count)
    learned, tested, all_of_them = searched.train.to_list(), searched.test.to_list(), colours.train.to_list()
    assert sorted(learned + tested, key=str) == sorted(all_of_them, key=str)
    for rows in (learned, tested):
        assert rows == [row for row in all_of_them if row in rows]  # in their old order
    assert searched.labels == colours.labels


@pytest.mark.parametrize("order", ["sorted", "in turn", "rare last"])
def test_each_class_has_its_share_of_what_is_held_out(order, sweep, asked, folder, tiny_encoder, monkeypatch):
    classes = {
        "sorted": ["a"] * 40 + ["b"] * 24 + ["c"] * 8,
        "in turn": ["a", "b"] * 24 + ["c", "a"] * 8 + ["a"] * 8,
        "rare last": ["a", "b"] * 24 + ["a"] * 16 + ["c"] * 8,
    }[order]
    rows = [{"prompt": f"{i}", "completion": f" {answer}"} for i, answer in enumerate(classes)]
    task = lk.Task("abc", Dataset.from_list(rows), Dataset.from_list(rows[:1]), (" a", " b", " c"), "made here")
    searched, _ = held_out_of(task, 18, sweep, asked, tiny_encoder, monkeypatch)
    assert Counter(searched.test["completion"]) == {" a": 10, " b": 6, " c": 2}
    assert Counter(searched.train["completion"]) == {" a": 30, " b": 18, " c": 6}


def test_held_out_examples_are_what_a_row_counts(sweep, asked, folder, tiny_encoder):
    asked(tiny_encoder)
    sweep({**setting(0, method="head"), "held_out": 5})
    ((_, _, row),) = run_all()
    assert (row["total"], len(row["hits"]), row["test"], row["held_out"]) == (5, 5, 12, 5)


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
        texts = bench.general_english()
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


PICKS = {
    "the stored row": lambda folder: rows(folder)[1],
    "a row by its place": lambda folder: lk.results("tiny").iloc[1],
    "a row by its label": lambda folder: lk.results("tiny").loc[1],
    "the best row": lambda folder: lk.results("tiny").sort_values("learning_rate").iloc[-1],
    "a row of a loop": lambda folder: [row for _, row in lk.results("tiny").iterrows()][1],
    "a record": lambda folder: lk.results("tiny").to_dict("records")[1],
}


def test_a_stored_row_is_repeated_with_the_same_result(tiny_encoder, sweep, asked, folder):
    asked(tiny_encoder)
    sweep(setting(0, method="full"), setting(1, method=QUERY, rate=0.03))
    _, (_, _, row) = run_all()
    for pick in PICKS.values():
        again = lk.repeat(pick(folder))
        assert {key: row[key] for key in again} == again | {key: row[key] for key in TIMES}
        assert set(row) == {*PARTS, *again}
    assert rows(folder)[1] == row


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_results_are_those_of_the_whole_sweep(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["command"] == f"labkit bench {path.stem}"
    stored = [parts(row) for row in content["rows"]]
    planned = [asdict(point) for point in bench.points(path.stem)]
    assert [row for row in stored if row not in planned] == []
    assert [point for point in planned if point not in stored] == []
    assert len(stored) == len(planned)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_results_are_plausible(path):
    table = lk.results(path.stem)
    held_out = table.get("held_out", 0 * table["test"])
    assert (table["total"] == held_out.where(held_out > 0, table["test"])).all()
    assert table["correct"].between(0, table["total"]).all()
    assert (table["trained_parameters"] > 0).all()
    assert (table["parameter_bytes"] >= 4 * table["trained_parameters"]).all()
    assert (table["peak_bytes"] > table["parameter_bytes"] + 8 * table["trained_parameters"]).all()
    assert table["seconds"].between(0, 3600, inclusive="neither").all()
    for _, row in table.iterrows():
        if row["model"] == "minilm":
            assert pd.isna(row["loss_rise"])
        else:
            assert -1 < row["loss_rise"] < 20
    best = table.groupby("name")["accuracy"].max()
    assert (best > 0.5).all()  # of twelve departments


DETAILED = [path for path in STORED if '"hits"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", DETAILED, ids=lambda path: path.stem)
def test_stored_measurements_agree_with_one_another(path):
    table = lk.results(path.stem)
    assert (table["hits"].str.len() == table["total"]).all()
    assert (table["hits"].str.count("1") == table["correct"]).all()
    assert (table["predicted_bytes"] / table["peak_bytes"]).dropna().between(0.95, 1.05).all()
    written = 4 * table["trained_parameters"]
    assert table["adapter_bytes"].between(written, 1.1 * written + 20_000).all()
    assert (table["drift"].notna() == (table["model"] == "minilm")).all()
    assert table["merged_latency"].notna().equals(~table["name"].isin(["qlora", "bottleneck", "prefix", "prompt"]))
    assert table["merged_latency"].dropna().median() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_only_the_seed_leaves_the_number_of_trained_parameters_as_it_is(path):
    table = lk.results(path.stem)
    counts = table.groupby(["model", "task", table["method"].map(str)])["trained_parameters"]
    assert (counts.nunique() == 1).all()


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_results_say_where_and_when_they_were_made(path):
    for made in lk.results(path.stem)["made"]:
        assert date(2026, 1, 1) <= date.fromisoformat(made["date"])
        assert made["threads"] >= 1
        assert made["precision"] in {"float32", "bfloat16", "float16"}
        keys = ("processor", "python", "torch", "transformers", "finetune-labkit")
        assert all(made[key].strip() for key in keys)


@pytest.mark.network
def test_a_stored_run_made_again_lies_in_its_interval(minilm):
    table = lk.results("methods")
    runs = table[(table["model"] == "minilm") & (table["task"] == "triage") & (table["label"] == "head")]
    row = runs[runs["seed"] == 0].iloc[0]
    again = lk.repeat(row)
    low, high = lk.evaluation.bootstrap_interval(list(runs["hits"]))
    assert low <= again["correct"] / again["total"] <= high
    assert again["trained_parameters"] == row["trained_parameters"]
    assert again["predicted_bytes"] == pytest.approx(again["peak_bytes"], rel=0.01)
