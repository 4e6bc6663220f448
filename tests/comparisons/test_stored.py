"""The results that the course brings along, under ``data/results``."""

import json
from dataclasses import asdict
from datetime import date

import pandas as pd
import pytest
from tiny_sweep import parts

import labkit as lk
from labkit.comparisons import merge_measures
from labkit.comparisons.reward_measures import ASKED
from labkit.comparisons.sweeps import points
from labkit.exports.llama_proof import GgufProof, beyond_bounds
from labkit.storage import cache

# Files named gpu-CARD.json are make gpu's: test_gpu_dry.py looks at them.
STORED = [path for path in sorted((cache.course_data() / "results").glob("*.json")) if path.stem[:4] != "gpu-"]


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_results_are_those_of_the_whole_sweep(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["command"] == f"labkit bench {path.stem}"
    stored = [parts(row) for row in content["rows"]]
    planned = [asdict(point) for point in points(path.stem)]
    assert [row for row in stored if row not in planned] == []
    assert [point for point in planned if point not in stored] == []
    assert len(stored) == len(planned)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_results_are_plausible(path):
    table = lk.results(path.stem)
    held_out = table.get("held_out", 0 * table["test"])
    tested = held_out.where(held_out > 0, table["test"])
    asked = tested.clip(upper=ASKED) if "won" in table else tested  # where replies are judged, some questions are
    tasks = 2 if "triage_hits" in table else 1
    assert (table["total"] == tasks * asked).all()
    assert table["correct"].between(0, table["total"]).all()
    if "data.way" in table:
        table = table[table["data.way"] != "base"]  # nothing is trained there
    assert (table["trained_parameters"] > 0).all()
    assert table["seconds"].between(0, 3600, inclusive="neither").all()
    if {"scores", "rose", "won", "proof", "triage_hits", "largest"} & {*table}:
        return  # conversations, pairs, rewards, exports, merges and roundings have tests of their own
    assert (table["parameter_bytes"] >= 4 * table["trained_parameters"]).all()
    assert (table["peak_bytes"] > table["parameter_bytes"] + 8 * table["trained_parameters"]).all()
    for _, row in table.iterrows():
        if row["model"] == "minilm":
            assert pd.isna(row["loss_rise"])
        else:
            assert -1 < row["loss_rise"] < 20
    best = table.groupby("name")["accuracy"].max()
    assert (best > 0.5).all()  # of twelve departments


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_every_row_says_which_examples_were_right(path):
    """Without that, ``lk.compare`` could not compare runs example by example."""
    table = lk.results(path.stem)
    assert (table["hits"].str.len() == table["total"]).all()
    assert (table["hits"].str.count("1") == table["correct"]).all()
    assert (table["hits"].str.strip("01") == "").all()


CHATS = [path for path in STORED if '"scores"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", CHATS, ids=lambda path: path.stem)
def test_stored_replies_are_plausible(path):
    for _, row in lk.results(path.stem).iterrows():
        assert row["scores"]["exact"] == row["hits"]
        assert {len(hits) for hits in row["scores"].values()} == {len(row["kinds"])} == {row["total"]}
        for exact, form, mentioned in zip(
            *(row["scores"][name] for name in ("exact", "form", "mentioned")), strict=True
        ):
            assert exact <= form
            assert exact <= mentioned
        assert 0 < row["reply_tokens"] <= 40
        assert -1 < row["chat_rise"] < 20
        assert -1 < row["english_rise"] < 20


PAIRS = [path for path in STORED if '"rose"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_stored_measures_of_pairs_are_plausible(path):
    for _, row in lk.results(path.stem).iterrows():
        assert len(row["rose"]) == row["total"]
        assert len(row["plain"]) == len(row["jargon"])
        assert row["kl"] > 0
        assert row["chosen_change"] > row["rejected_change"]  # what every loss asks for, and SFT gets
        assert 0 < row["reply_tokens"] <= 24
        assert -1 < row["chat_rise"] < 20
        assert -1 < row["english_rise"] < 20
        if row["data.loss"] != "sft":
            assert {len(column) for column in row["course"].values()} == {row["steps"]}


MERGED = [path for path in STORED if '"triage_hits"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", MERGED, ids=lambda path: path.stem)
def test_stored_merges_are_plausible(path):
    table = lk.results(path.stem)
    for _, row in table.iterrows():
        assert row["triage_hits"] + row["licenses_hits"] == row["hits"]
        assert len(row["triage_hits"]) == len(row["licenses_hits"]) == row["test"]
        assert len(row["plain_hits"]) == merge_measures.PAIRS
        assert row["plain_hits"].strip("01") == ""
        assert -1 < row["english_rise"] < 20
    base = table[table["data.way"] == "base"]
    assert base["hits"].nunique() == base["plain_hits"].nunique() == 1  # no seed changes it
    assert (base[["english_rise", "trained_parameters", "seconds"]] == 0).all(axis=None)


DETAILED = [path for path in STORED if '"latency"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", DETAILED, ids=lambda path: path.stem)
def test_stored_measurements_agree_with_one_another(path):
    table = lk.results(path.stem)
    assert (table["predicted_bytes"] / table["peak_bytes"]).dropna().between(0.95, 1.05).all()
    written = 4 * table["trained_parameters"]
    assert table["adapter_bytes"].between(written, 1.1 * written + 20_000).all()
    assert (table["drift"].notna() == (table["model"] == "minilm")).all()
    assert table["merged_latency"].notna().equals(~table["name"].isin(["qlora", "bottleneck", "prefix", "prompt"]))
    assert table["merged_latency"].dropna().median() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_only_the_seed_leaves_the_number_of_trained_parameters_as_it_is(path):
    table = lk.results(path.stem)
    way = table.get("data.way", "")  # of several adapters
    counts = table.assign(how=table["method"].map(str) + way).groupby(["model", "task", "how"])["trained_parameters"]
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


REWARDED = [path for path in STORED if '"won"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", REWARDED, ids=lambda path: path.stem)
def test_stored_runs_on_rewards_are_plausible(path):
    table = lk.results(path.stem)
    assert table["about_before"].nunique() == table["reward_before"].nunique() == 1  # one judge for all
    assert table["drawn"].nunique() == 1  # and as many replies
    for _, row in table.iterrows():
        assert len(row["won"]) == len(row["about_before"]) == row["total"]
        assert (row["won"] + row["hits"]).strip("01") == ""
        assert 0.9 < row["rm_accuracy"] <= 1
        assert 1 <= row["distinct"] <= row["total"]
        assert 0 < row["kl"] < 5
        assert -1 < row["chat_rise"] < 20
        assert -1 < row["english_rise"] < 20
        assert row["skipped"] == 0
        assert {len(column) for column in row["course"].values()} == {row["steps"]}
        assert ("reward" in row["course"]) == (row["data.algorithm"] != "dpo") == pd.isna(row["pairs"])
        assert max(row["course"].get("mismatch", [0])) < 0.1
        if row["data.algorithm"] != "dpo":
            assert not any(row["course"]["clipped"])  # with one update a step, each ratio is 1
            assert row["course"]["kl"][0] == 0


def test_stored_exports_are_the_model_within_the_bounds_and_a_lost_scale_is_not():
    table = lk.results("exports").set_index(["data.format", "data.fault"])
    live = table.loc[("live", "")]
    assert (live["proof"], live["same"], live["file_bytes"]) == ({}, live["total"], 0)
    for (format, fault), row in table.drop(("live", "")).iterrows():
        proof = GgufProof(**row["proof"])
        assert (proof.positions, proof.strings, proof.conversations) == (500, 1000, 4)
        assert bool(beyond_bounds(proof)) == bool(fault), format
        assert row["same"] <= row["total"]
        alike = sum(a == b for a, b in zip(row["hits"], live["hits"], strict=True))
        assert row["same"] <= alike  # the same label is the same hit
    sizes = [table.loc[(f"gguf-{kind}", ""), "file_bytes"] for kind in ("f16", "q8_0", "q4_0")]
    assert sizes == sorted(sizes, reverse=True)


def test_stored_roundings_are_in_the_order_of_what_they_lose():
    table = lk.results("rounding").set_index(["data.base", "data.way"])
    assert table["positions"].nunique() == 1  # the same prompts for all
    for (base, way), row in table.iterrows():
        live = table.loc[(base, "live")]
        assert row["same"] <= sum(a == b for a, b in zip(row["hits"], live["hits"], strict=True)) <= row["total"]
        assert row["seconds"] == live["seconds"]
        if way == "live":
            assert (row["largest"], row["kl"], row["agreement"], row["same"]) == (0, 0, 1, row["total"])
        else:
            assert row["largest"] > 0
            assert 0 < row["kl"] < 20
            assert 0.3 < row["agreement"] <= 1
    kl = table["kl"]
    for base in ("lora", "qlora"):
        assert kl[base, "float32"] < kl[base, "bfloat16"] / 100
    assert kl["lora", "bfloat16"] < kl["lora", "int8-blocks"] < kl["lora", "int8-matrix"] < kl["lora", "nf4"]
    assert kl["lora", "live-on-nf4"] > 100 * kl["lora", "bfloat16"]
    # The adapter beside another base is as far off as the sum with it, and far more than any rounding to 16 bits.
    originals = [kl["qlora", way] for way in ("live-on-original", "original-float32", "original-bfloat16")]
    assert originals == pytest.approx([originals[0]] * 3, rel=0.1)
    assert min(originals) > 100 * kl["qlora", "bfloat16"]
