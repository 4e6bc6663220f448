import json
from pathlib import Path

import pytest
import torch
from tiny import tiny_config
from transformers import LlamaConfig

from labkit import cli, diagnosis
from labkit.assets import fetch
from labkit.assets.fetch import ensure
from labkit.assets.manifest import load_manifest
from labkit.comparisons import bench
from labkit.comparisons.sweeps import SWEEPS
from labkit.errors import LabkitError
from labkit.memory import KINDS, MemoryReport
from labkit.methods import METHODS
from labkit.planning import Prediction


@pytest.fixture
def asked(monkeypatch):
    """Return the list of the assets that the command asks for, which are not fetched."""
    names = []

    def note(name):
        names.append(name)
        return f"/cache/{name}"

    monkeypatch.setattr(fetch, "ensure", note)
    return names


def test_an_unknown_asset_fails_with_the_valid_names(capsys):
    assert cli.main(["fetch", "nosuch"]) == 1
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith("labkit: There is no asset called 'nosuch'.")
    assert "factbook, hpo, licenses, minilm, smollm2-135m" in seen.err


def test_a_cached_asset_is_shown_with_its_folder(capsys):
    assert cli.main(["fetch", "hpo"]) == 0
    assert capsys.readouterr().out.split() == ["hpo", str(ensure("hpo"))]


def test_without_names_the_first_notebooks_assets_are_fetched(asked, capsys):
    assert cli.main(["fetch"]) == 0
    assert asked == ["smollm2-135m", "hpo", "factbook"]
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [[n, f"/cache/{n}"] for n in asked]


def test_all_means_every_asset_of_the_manifest(asked):
    assert cli.main(["fetch", "--all"]) == 0
    assert asked == list(load_manifest())


def test_named_assets_are_fetched_in_their_order(asked):
    assert cli.main(["fetch", "minilm", "hpo"]) == 0
    assert asked == ["minilm", "hpo"]


def test_a_problem_is_printed_with_its_remedy(monkeypatch, capsys):
    def fail(name):
        raise LabkitError("It rains.", "Take an umbrella.")

    monkeypatch.setattr(fetch, "ensure", fail)
    assert cli.main(["fetch", "hpo"]) == 1
    assert capsys.readouterr().err == "labkit: It rains.\n→ Take an umbrella.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ("doctor", "fetch", "bench", "plan", "refresh", "budget")),
        (["fetch", "--help"], ("--all", "smollm2-135m hpo factbook")),
        (["bench", "--help"], ("--out", "--part", "lora-rate")),
        (["refresh", "--help"], ("notebook", "--write")),
        (["budget", "--help"], ("notebook", "--operations", "--write")),
        (["plan", "--help"], ("llama-65b", "--method", "--batch-size", "--gradient-checkpointing", "--gpu", "--json")),
    ],
)
def test_help_is_shown(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(word in shown for word in words)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["fetch", "--more"],
        ["bench"],
        ["bench", "a", "b"],
        ["plan"],
        ["plan", "a", "--batch-size", "x"],
    ],
)
def test_a_wrong_command_is_answered_with_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: labkit" in capsys.readouterr().err


@pytest.fixture
def benched(monkeypatch):
    """Return the list of what ``bench`` was called with; it runs nothing, and fails after ``rows`` if told to."""
    calls = []
    rows = [
        {"learning_rate": 1e-05, "seed": 2, "method": {"name": "full"}, "correct": 7, "total": 9},
        {"learning_rate": 0.003, "seed": 0, "method": {"name": "lora", "rank": 4}, "correct": 8, "total": 9}
        | {"data": {"way": "cat"}},
    ]

    def fake(name, folder, part):
        calls.append((name, folder, part))
        yield from ((number, 5, row) for number, row in enumerate(rows, 4))
        if name == "stormy":
            raise LabkitError("It rains.", "Take an umbrella.")

    monkeypatch.setattr(bench, "bench", fake)
    return calls


RUNS = "4/5  7 of 9  rate=1e-05 seed=2 name=full\n5/5  8 of 9  rate=0.003 seed=0 name=lora rank=4 way=cat\n"


@pytest.mark.parametrize(
    ("arguments", "folder", "part"),
    [
        ([], None, (1, 1)),
        (["--out", "my results"], Path("my results"), (1, 1)),
        (["--part", "1/2"], None, (1, 2)),
        (["--part", "12/12", "--out", "."], Path(), (12, 12)),
    ],
    ids=["default", "--out", "--part", "both"],
)
def test_bench_prints_a_line_for_each_run(benched, capsys, arguments, folder, part):
    assert cli.main(["bench", "sunny", *arguments]) == 0
    assert benched == [("sunny", folder, part)]
    assert capsys.readouterr() == (RUNS, "")


@pytest.mark.parametrize(
    "part", ["0/2", "3/2", "-1/2", "1/0", "0/0", "1", "2", "/2", "1/", "/", "", "1/2/3", "1.5/2", "a/b"]
)
def test_what_is_no_part_runs_nothing(benched, capsys, part):
    assert cli.main(["bench", "sunny", f"--part={part}"]) == 1
    assert benched == []
    assert capsys.readouterr() == (
        "",
        f"labkit: --part {part} is not a share of the work.\n→ Write 1/2 and 2/2 for two processes.\n",
    )


def test_a_problem_in_a_sweep_comes_after_the_runs_before_it(benched, capsys):
    assert cli.main(["bench", "stormy"]) == 1
    assert capsys.readouterr() == (RUNS, "labkit: It rains.\n→ Take an umbrella.\n")


def test_an_unknown_sweep_fails_with_the_valid_names(capsys, tmp_path):
    assert cli.main(["bench", "nosuch", "--out", str(tmp_path / "out")]) == 1
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith("labkit: There is no sweep called 'nosuch'.")
    assert ", ".join(sorted(SWEEPS)) in seen.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("well", "status"), [(True, 0), (False, 1)])
def test_the_doctors_finding_is_the_exit_status(monkeypatch, well, status):
    monkeypatch.setattr(diagnosis, "doctor", lambda: well)
    assert cli.main(["doctor"]) == status


@pytest.fixture
def planned(monkeypatch):
    """Return the list of what is predicted: 7 GB for each example, and another GB for adapters; no head suits."""
    calls = []

    def answer(step):
        if step.method.name == "head":
            raise LabkitError("It answers in words.", "Use an encoder.")
        calls.append((step.method, step.training, step.examples, step.precision))
        size = 7 * 10**9 * len(step.examples) + 10**9 * (step.method.name != "full")
        report = MemoryReport(activations=size)
        return Prediction(report, report, report)

    monkeypatch.setattr("labkit.planning.plan.predict_step", answer)
    return calls


def test_a_plan_compares_the_methods(planned, capsys):
    assert cli.main(["plan", "llama-7b"]) == 0
    assert capsys.readouterr() == (
        "llama-7b, batch 1 × 512 tokens, bfloat16\n"
        "method           tensors      needed\n"
        "bottleneck        8.0 GB      8.6 GB\n"
        "full              7.0 GB      7.6 GB\n"
        "ia3               8.0 GB      8.6 GB\n"
        "lora              8.0 GB      8.6 GB\n"
        "prefix            8.0 GB      8.6 GB\n"
        "prompt            8.0 GB      8.6 GB\n"
        "qlora             8.0 GB      8.6 GB\n"
        "head        not possible: It answers in words.\n",
        "",
    )
    assert {call[0].name for call in planned} == METHODS.keys() - {"head"}


def test_a_plan_says_which_methods_fit_a_card(planned, capsys):
    assert cli.main(["plan", "llama-7b", "--gpu", "8GB", "--gradient-checkpointing"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "llama-7b, batch 1 × 512 tokens, bfloat16, gradient checkpointing"
    *rows, refused = lines[2:]
    assert {row.split()[0]: row.split()[-1] for row in rows} == {
        name: "yes" if name == "full" else "no" for name in METHODS if name != "head"
    }
    assert len({len(row) for row in lines[1:-1]}) == 1
    assert refused == "head        not possible: It answers in words."


def test_a_plan_for_one_method_is_printed_whole(planned, capsys):
    assert cli.main(["plan", "llama-7b", "--method", "qlora"]) == 0
    assert capsys.readouterr().out == (
        "qlora on llama-7b, batch 1 × 512 tokens, bfloat16\n"
        "  activations      8.00 GB\n"
        "  tensors          8.00 GB at the peak of a step\n"
        "  reserved         8.02 GB by torch's allocator, about\n"
        "  context          0.60 GB by CUDA itself (assumed)\n"
    )


def test_a_plan_for_a_card_says_how_far_one_could_go(planned, capsys):
    assert cli.main(["plan", "llama-7b", "--method", "full", "--gpu", "24GB"]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "fits into 24.0 GB: 7.62 GB needed",
        "largest batch of 512 tokens: 3",
        "longest text in a batch of 1: 2048 tokens",
    ]


def test_options_reach_the_plan(planned, capsys):
    options = "--method lora --length 100 --learned 20 --precision float32"
    for names in ("--batch-size 3 --gradient-checkpointing", "--batch 3 --checkpointing"):  # Python's, and older ones
        planned.clear()
        assert cli.main(["plan", "llama-7b", *options.split(), *names.split()]) == 0
        ((method, training, examples, precision),) = planned
        assert (method.name, precision) == ("lora", torch.float32)
        assert (training.batch_size, training.gradient_checkpointing) == (3, True)
        assert [(len(example.tokens), example.learned) for example in examples] == [(100, 20)] * 3


def test_a_plan_as_json(planned, capsys):
    assert cli.main(["plan", "llama-7b", "--method", "full", "--json", "--gpu", "24GB"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["method"]["name"] == "full"
    assert list(record["tensors"]) == list(KINDS)
    assert (record["peak"], record["gpu"], record["fits"]) == (7 * 10**9, 24 * 10**9, True)
    assert (record["largest_batch"], record["largest_length"]) == (3, 2048)


def test_plans_as_json_are_a_list(planned, capsys):
    assert cli.main(["plan", "llama-7b", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["method"]["name"] for record in records] == [name for name in METHODS if name != "head"]
    assert all(record["fits"] is None and "largest_batch" not in record for record in records)


@pytest.fixture
def folder(tmp_path, one_thread):
    """The configuration of a Llama of one small layer."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_key_value_heads": 4}
    tiny_config("llama", vocab_size=100, **sizes).save_pretrained(tmp_path)
    return tmp_path


def test_a_plan_for_a_folder_is_simulated(folder, capsys):
    assert cli.main(["plan", str(folder), "--length", "16", "--json"]) == 0
    plans = {record["method"]["name"]: record for record in json.loads(capsys.readouterr().out)}
    assert list(plans) == [name for name in METHODS if name != "head"]
    full, lora, qlora = (plans[name] for name in ("full", "lora", "qlora"))
    numbers = 4 * 64 * 64 + 3 * 64 * 128
    rest = 2 * 100 * 64 + 3 * 64  # embedding, head and norms
    assert full["tensors"]["trainable"] == 4 * (numbers + rest)
    assert lora["tensors"]["trainable"] == qlora["tensors"]["trainable"] == 4 * 8 * (4 * 128 + 3 * 192)
    assert lora["tensors"]["frozen"] == 2 * (numbers + 100 * 64) + 4 * (100 * 64 + 3 * 64) + 2 * 4 * 8
    assert numbers / 2 < qlora["tensors"]["quantized"] < numbers
    assert all(plan["model"] == folder.name and plan["simulated"] for plan in plans.values())


@pytest.mark.parametrize("found", [True, False])
def test_a_configuration_is_asked_for_once_and_not_for_each_method(planned, folder, capsys, monkeypatch, found):
    asked = []

    def from_pretrained(name, **settings):
        asked.append(name)
        if not found:
            raise OSError("The hub does not answer.")
        return LlamaConfig.from_pretrained(folder)

    monkeypatch.setattr("labkit.models.config.AutoConfig.from_pretrained", from_pretrained)
    assert cli.main(["plan", "somebody/something", "--length", "16"]) == (0 if found else 1)
    assert asked == ["somebody/something"]
    assert "The hub does not answer." in capsys.readouterr().err or found


def test_a_plan_says_why_methods_are_not_possible(folder, capsys):
    assert cli.main(["plan", str(folder), "--length", "16", "--gradient-checkpointing"]) == 0
    head, prefix = capsys.readouterr().out.splitlines()[-2:]
    assert head.startswith("head        not possible: llama has no classifier of its own")
    assert prefix.startswith("prefix      not possible: Prefix tuning and gradient checkpointing exclude each other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "head"], "llama has no classifier"),
        (["--method", "prefix", "--gradient-checkpointing"], "exclude each other"),
    ],
)
def test_a_plan_for_a_method_that_is_not_possible_is_an_error(folder, capsys, arguments, message):
    assert cli.main(["plan", str(folder), "--length", "16", *arguments]) == 1
    seen = capsys.readouterr()
    assert seen.out == ""
    assert message in seen.err
    assert "\n→ " in seen.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["llama-7"], "no model called 'llama-7'.\n→ Did you mean 'llama-7b'?"),
        (["llama-7b", "--method", "qlorra"], "no method called 'qlorra'.\n→ Did you mean 'qlora'?"),
        (["llama-7", "--json"], "no model called 'llama-7'."),
        (["/nosuch/folder"], "no model called '/nosuch/folder'."),
        (["llama-7b", "--precision", "int8"], "no precision called 'int8'."),
        (["llama-7b", "--gpu", "48 GG"], "no size or GPU called '48 GG'."),
        (["llama-7b", "--batch-size", "0"], "batch_size must be a whole number from 1 up, not 0."),
        (["llama-7b", "--length", "9999"], "length must be a whole number from 2 to 2048, not 9999."),
        (["llama-7b", "--learned", "600"], "learned must be a whole number from 1 to 511, not 600."),
    ],
)
def test_a_mistake_in_a_plan_is_answered_with_its_remedy(planned, capsys, arguments, message):
    assert cli.main(["plan", *arguments]) == 1
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith("labkit: ")
    assert message in seen.err
