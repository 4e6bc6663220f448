import json
import time
from statistics import median

import pytest
import torch

import labkit as lk
from labkit.comparisons import measures
from labkit.comparisons.measures import Clock, measured
from labkit.evaluation import drift, latency_ratio, text_loss
from labkit.methods.adapter import adapters_of
from labkit.models.precision import store_linear_weights

ENGLISH = [
    "The cat sat on the mat.",
    "Rivers run into the sea.",
    "Yes.",
    "Snow fell all night.",
    "What is it?",
    "Two by two.",
]
SETTINGS = {"steps": 3, "batch_size": 4, "learning_rate": 0.03, "seed": 5}
KEYS = {
    *("correct", "total", "hits", "diverged", "trained_parameters", "adapter_bytes"),
    *("peak_bytes", "predicted_bytes", "parameter_bytes", "seconds", "tokens_per_second"),
    *("loss_rise", "drift", "latency", "merged_latency"),
}
METHODS = {
    "full": lk.FullFineTuning(),
    "LoRA": lk.LoRA(rank=2),
    "QLoRA": lk.QLoRA(rank=2, block_size=32),
    "bottleneck": lk.BottleneckAdapters(size=2),
    "IA3": lk.IA3(),
    "prefix": lk.PrefixTuning(virtual_tokens=3),
    "prompt": lk.PromptTuning(virtual_tokens=3),
    "head": lk.HeadOnly(),
}
MERGEABLE = ("full", "LoRA", "IA3", "head")
FIXTURES = {"causal": "tiny", "encoder": "tiny_encoder"}
CASES = [
    *(("causal", name) for name in ("full", "QLoRA", "IA3", "prefix")),
    *(("encoder", name) for name in ("LoRA", "bottleneck", "prompt", "head")),
]
SOME = [("causal", "LoRA"), ("encoder", "full")]


@pytest.fixture(autouse=True)
def _short_english(monkeypatch):
    for module in ("comparisons.measures", "evaluation.vectors"):
        monkeypatch.setattr(f"labkit.{module}.general_english", lambda: ENGLISH)


@pytest.fixture
def timed(monkeypatch):
    """The pairs of models whose latency was asked for; none is measured."""
    pairs = []

    def note(base, tuned, text):
        pairs.append((base, tuned))
        return 1.2346

    monkeypatch.setattr(measures, "latency_ratio", note)
    return pairs


@pytest.fixture
def model(request):
    return request.getfixturevalue(FIXTURES[request.param])


@pytest.mark.parametrize(("model", "name"), CASES, indirect=["model"])
def test_a_row_is_what_a_run_gave_and_cost(model, name, colours, timed, tmp_path):
    causal = model.kind == "causal"
    before = text_loss(model, ENGLISH) if causal else None
    row = measured(model, colours, METHODS[name], SETTINGS, before)
    run = lk.finetune(model, colours, METHODS[name], progress=False, **SETTINGS)
    score = lk.evaluate(run.model, colours)
    truth = [completion.strip() for completion in colours.test["completion"]]

    assert row.keys() == KEYS
    assert row["diverged"] is False
    assert (row["correct"], row["total"]) == (score.correct, 12)
    assert row["hits"] == "".join("01"[p == t] for p, t in zip(score.predictions, truth, strict=True))
    assert row["trained_parameters"] == run.trained_parameters
    saved = run.save(tmp_path / "run").glob("*.safetensors")
    assert row["adapter_bytes"] == sum(file.stat().st_size for file in saved) > 4 * run.trained_parameters
    assert row["peak_bytes"] == run.memory.peak
    assert row["parameter_bytes"] == run.memory.parameters
    assert row["predicted_bytes"] == pytest.approx(row["peak_bytes"], rel=0.01)
    rise = pytest.approx(text_loss(run.model, ENGLISH) - before, abs=1e-4) if causal else None
    assert row["loss_rise"] == rise
    assert row["drift"] == (None if causal else pytest.approx(drift(model, run.model, ENGLISH), abs=1e-4))
    assert row["latency"] == 1.235
    assert row["merged_latency"] == (1.235 if name in MERGEABLE else None)
    assert row["seconds"] > 0
    assert json.loads(json.dumps(row, allow_nan=False)) == row


@pytest.mark.parametrize("name", ["full", "LoRA", "IA3"])
def test_what_is_merged_is_stored_as_the_base_is_and_does_what_was_trained(tiny, colours, timed, ids, name):
    tiny.precision = torch.bfloat16
    store_linear_weights(tiny.module, tiny.precision)
    measured(tiny, colours, METHODS[name], SETTINGS)
    (base, tuned), (other, merged) = timed
    assert base is other is tiny
    assert not adapters_of(merged)
    for one, two in zip(tiny.module.parameters(), merged.module.parameters(), strict=True):
        assert (one.shape, one.dtype) == (two.shape, two.dtype)
    with torch.no_grad(), tiny.autocast():
        before, trained, result = (each.module(ids).logits.float() for each in (tiny, tuned, merged))
    assert (result - trained).norm() < 0.3 * (trained - before).norm()


def test_forgetting_is_not_measured_without_the_bases_loss(tiny, colours, timed, monkeypatch):
    monkeypatch.setattr(measures, "text_loss", None)
    assert measured(tiny, colours, METHODS["IA3"], SETTINGS)["loss_rise"] is None


@pytest.mark.parametrize(("model", "name"), SOME, indirect=["model"])
def test_the_base_stays_as_it_was(model, colours, timed, name):
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    measured(model, colours, METHODS[name], SETTINGS)
    after = model.module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert model.head is None


@pytest.mark.parametrize(("model", "name"), SOME, indirect=["model"])
def test_a_run_that_diverged_has_a_row(model, colours, timed, name):
    row = measured(model, colours, METHODS[name], SETTINGS | {"learning_rate": 1e30})
    assert row.keys() == KEYS
    assert row["diverged"] is True
    assert 0 <= row["correct"] == row["hits"].count("1") <= 12
    assert row["total"] == len(row["hits"]) == 12
    assert row["predicted_bytes"] > row["trained_parameters"] > 0


@pytest.mark.parametrize(("model", "measure"), [("causal", "loss_rise"), ("encoder", "drift")], indirect=["model"])
def test_what_cannot_be_measured_of_a_run_that_diverged_is_none(model, colours, timed, measure):
    english = 3.0 if model.kind == "causal" else None
    row = measured(model, colours, METHODS["LoRA"], SETTINGS | {"learning_rate": 1e30}, english)
    assert row[measure] is None


def test_a_run_that_diverged_at_once_has_no_speed(tiny_encoder, colours, timed):
    tiny_encoder.module.embeddings.word_embeddings.weight.data.fill_(torch.inf)
    row = measured(tiny_encoder, colours, METHODS["head"], SETTINGS)
    assert row["diverged"] is True
    assert row["tokens_per_second"] is None
    assert row["peak_bytes"] is None


def test_speed_is_the_median_of_tokens_per_second_of_processor_time(tiny_encoder, colours, timed, monkeypatch):
    history = lk.finetune(tiny_encoder, colours, METHODS["head"], progress=False, **SETTINGS).history
    rates = [record["tokens"] / seconds for record, seconds in zip(history, (1, 4, 2), strict=True)]
    clock, moments = Clock(last=0), iter([1, 5, 7])
    monkeypatch.setattr(measures, "Clock", lambda: clock)
    monkeypatch.setattr(time, "process_time", lambda: next(moments))
    row = measured(tiny_encoder, colours, METHODS["head"], SETTINGS)
    assert clock.rates == rates
    assert row["tokens_per_second"] == round(median(rates), 1)


def test_a_step_shorter_than_the_clocks_resolution_ends_no_run(tiny_encoder, monkeypatch):
    monkeypatch.setattr(time, "process_time", lambda: 1.0)
    Clock(last=1.0)(tiny_encoder, {"tokens": 7}, False)


def test_the_latency_is_that_of_a_text_of_the_test_set(tiny_encoder, colours, monkeypatch):
    texts = []

    def note(base, tuned, text):
        texts.append(text)
        return latency_ratio(base, tuned, text, repeats=1)

    monkeypatch.setattr(measures, "latency_ratio", note)
    measured(tiny_encoder, colours, METHODS["head"], SETTINGS)
    assert texts == [colours.test["prompt"][0]] * 2
