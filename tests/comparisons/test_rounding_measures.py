"""What a row on a way to bring an adapter into weights holds, of a tiny model."""

import pytest
from tiny import STRONG, tiny_model
from tiny_sweep import rows, run_all, setting

import labkit as lk
from labkit.comparisons import export_measures, point
from labkit.comparisons.rounding_measures import PROMPTS, rounding
from labkit.comparisons.roundings import BLOCK, WAYS
from labkit.comparisons.sweeps import points
from labkit.evaluation.difference import LogitDifference


@pytest.fixture
def wide(tokenizer, asked):
    reader = tokenizer("smollm2-135m")
    sizes = {"hidden_size": BLOCK, "intermediate_size": 2 * BLOCK, "tie_word_embeddings": True, **STRONG}
    model = tiny_model("llama", reader, "tiny", vocab_size=len(reader), **sizes)
    asked(model)
    point._live.cache_clear()
    yield model
    point._live.cache_clear()


def test_a_row_says_what_a_way_makes_of_one_run(sweep, wide, folder, colours, monkeypatch):
    learned = []
    monkeypatch.setattr(
        export_measures, "finetune", lambda *given, **more: learned.append(1) or lk.finetune(*given, **more)
    )
    kinds = {"lora": ("live", "float32", "nf4"), "qlora": ("live", "original-float32")}
    made = [
        setting(0, {"name": base, "rank": 4}, 0.1) | {"data": {"base": base, "way": way}}
        for base, ways in kinds.items()
        for way in ways
    ]
    sweep(*made)
    run_all()
    assert len(learned) == 2
    live, exact, nf4, qlora, original = rows(folder)
    run = lk.finetune(wide, colours, lk.LoRA(rank=4), progress=False, **point.Point(**made[0]).settings())
    for row, way in ((live, "live"), (exact, "float32"), (nf4, "nf4")):
        model = WAYS["lora"][way](run.model, wide)
        apart = lk.evaluation.logit_difference(run.model, model, list(colours.test["prompt"])[:PROMPTS])
        found = LogitDifference(*(row[key] for key in ("positions", "largest", "kl", "agreement")))
        assert (found.positions, found.agreement) == (apart.positions, apart.agreement)
        assert found.kl == pytest.approx(apart.kl, rel=1e-3, abs=1e-9)
        assert found.largest == pytest.approx(apart.largest, rel=1e-3, abs=1e-4)
        evaluation, start = lk.evaluate(model, colours), lk.evaluate(run.model, colours)
        assert row["hits"] == evaluation.hits
        assert row["same"] == sum(a == b for a, b in zip(evaluation.predictions, start.predictions, strict=True))
        assert row["trained_parameters"] == run.trained_parameters
        assert row["seconds"] == live["seconds"] > 0
    assert qlora["largest"] == 0  # each is compared with its own live model
    assert original["kl"] > 1000 * exact["kl"]


def test_the_sweep_has_every_way_and_trains_twice():
    made = points("rounding")
    assert [(run.data["base"], run.data["way"]) for run in made] == [(b, w) for b, ways in WAYS.items() for w in ways]
    assert all(run.method["name"] == run.data["base"] for run in made)
    assert len({str(run.training()) for run in made}) == 2
    exported = points("exports")[0]
    assert {run["learning_rate"] for run in rounding()} == {exported.learning_rate}
    assert made[0].training().settings() == exported.settings()
    assert (made[0].train, made[0].test, made[0].method) == (exported.train, exported.test, exported.method)
