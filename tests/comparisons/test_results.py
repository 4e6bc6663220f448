import json
import math

import pandas as pd
import pytest
from tiny_sweep import LORA, PARTS, QUERY, rows, run_all, setting

import labkit as lk
from labkit.comparisons.bench import bench
from labkit.comparisons.point import Point
from labkit.comparisons.showdown import SHOWDOWN
from labkit.comparisons.sweeps import points

TIMES = ("seconds", "tokens_per_second", "latency", "merged_latency")


@pytest.mark.parametrize(
    "content",
    [b"", b'{"rows": [', b"[]", b"null", b"{}", b"\xff\xfe", b'{"rows": 3}', b'{"rows": [1]}', b'{"rows": [{}]}'],
)
@pytest.mark.parametrize(
    "reader",
    [run_all, lambda: list(bench("tiny", part=(2, 2))), lambda: lk.results("tiny")],
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
    others = [LORA, {**SHOWDOWN["LoRA r=4"], "dropout": 0.1}, {"name": "prefix", "virtual_tokens": 3}]
    sweep(*(setting(0, method=method) for method in [*SHOWDOWN.values(), *others]))
    run_all()
    assert lk.results("tiny")["label"].tolist() == [*SHOWDOWN, "lora", "lora", "prefix"]


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
    monkeypatch.setattr(Point, "run", lambda point: point)
    repeated = [lk.repeat(row) for _, row in lk.results("tiny").iterrows()]
    assert repeated == points("tiny")


def test_the_table_of_an_unfinished_sweep_has_the_rows_so_far(sweep, ran, folder):
    next(bench("tiny"))
    assert lk.results("tiny")["seed"].tolist() == [0]


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


def test_a_row_that_lacks_a_setting_is_not_repeated(sweep, ran, folder):
    run_all()
    for row in (lk.results("tiny").drop(columns="seed").iloc[0], {}):
        with pytest.raises(lk.LabkitError, match="row lacks settings"):
            lk.repeat(row)
    assert ran == [0, 1, 2, 3]
