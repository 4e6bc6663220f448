import json
import os
import threading
import time
from dataclasses import asdict

import pytest
from tiny_sweep import LORA, parts, rows, run_all, setting

import labkit as lk
from labkit.comparisons import results
from labkit.comparisons.bench import bench
from labkit.comparisons.point import Point
from labkit.comparisons.sweeps import points


def test_each_run_is_stored_before_the_next_begins(sweep, ran, folder):
    for number, of, row in bench("tiny"):
        assert of == 4
        assert ran == list(range(number))
        assert len(rows(folder)) == number
        assert rows(folder)[-1] == row
        assert os.listdir(folder) == ["tiny.json"]


def test_a_row_holds_the_point_and_what_was_measured(sweep, ran, folder):
    run_all()
    method = {"rank": 2, "target_modules": ["q_proj"], "alpha": 16, "dropout": 0.0, "rslora": False, "variant": "lora"}
    measured = {"correct": 9, "total": 12, "loss_rise": None, "made": {"place": "Zürich"}}
    assert rows(folder)[3] == {
        **setting(3),
        "held_out": 0,
        "data": {},
        "method": {"name": "lora", **method},
        **measured,
    }


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
    list(bench("tiny", tmp_path / "deep" / "mine"))
    assert len(rows(tmp_path / "deep" / "mine")) == 4
    assert not folder.exists()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_parts_share_the_work(sweep, ran, tmp_path, count):
    for number in range(1, count + 1):
        before = len(ran)
        list(bench("tiny", tmp_path / str(number), (number, count)))
        assert len(ran) - before in (4 // count, 4 // count + 1)
    assert sorted(ran) == [0, 1, 2, 3]


def test_what_another_part_adds_during_a_run_is_kept(sweep, monkeypatch, folder):
    def run(point):
        if point.seed == 0:
            list(bench("tiny", part=(2, 2)))
        return {"correct": 1, "total": 2}

    monkeypatch.setattr(Point, "run", run)
    assert [number for number, _, _ in bench("tiny", part=(1, 2))] == [3, 4]
    assert [row["seed"] for row in rows(folder)] == [0, 1, 2, 3]  # in the sweep's order, whoever was first


def test_parts_that_store_at_the_same_time_lose_no_row(sweep, ran, monkeypatch, folder):
    def write(path, text):
        time.sleep(0.02)
        original(path, text)

    def run(point):
        both.wait(5)
        return {"correct": 1, "total": 2}

    original, both = results.write_text, threading.Barrier(2)
    monkeypatch.setattr(results, "write_text", write)
    monkeypatch.setattr(Point, "run", run)
    threads = [threading.Thread(target=list, args=[bench("tiny", part=(number, 2))]) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row["seed"] for row in rows(folder)) == [0, 1, 2, 3]


def test_a_part_that_begins_later_runs_what_the_other_leaves_out(sweep, ran, folder):
    first = bench("tiny", part=(1, 2))
    next(first)
    list(bench("tiny", part=(2, 2)))
    assert ran == [0, 1, 3]
    list(first)
    assert ran == [0, 1, 3, 2]


def test_an_interrupted_part_goes_on_with_its_own_points(sweep, ran, folder):
    list(bench("tiny", part=(2, 2)))
    next(bench("tiny", part=(1, 2)))
    assert ran == [1, 3, 0]
    assert [number for number, _, _ in bench("tiny", part=(1, 2))] == [4]
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
    assert [parts(row) for row in rows(folder)] == [asdict(point) for point in points("tiny")]


def test_a_measure_takes_no_setting_s_place(sweep, folder, monkeypatch):
    monkeypatch.setattr(Point, "run", lambda self: {"correct": 1, "total": 2, "steps": [1, 2]})
    with pytest.raises(AssertionError, match="steps"):
        next(bench("tiny"))
