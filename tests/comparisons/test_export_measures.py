"""What a row on an export holds, of a tiny model."""

import pytest
from tiny import STRONG, TOKENS, colour_task, tiny_model
from tiny_sweep import rows, run_all, setting

import labkit as lk
from labkit.comparisons import export_measures, point
from labkit.comparisons.export_measures import LIVE
from labkit.comparisons.sweeps import points
from labkit.exports import llama_proof
from labkit.exports.faults import SCALE
from labkit.exports.llama_proof import GgufProof, beyond_bounds
from labkit.exports.probes import hard_texts


@pytest.fixture
def exporting(asked, few_tokens, monkeypatch):
    """A tiny model to export, proved at few positions."""
    pytest.importorskip("xllamacpp", reason='needs the extra llama: pip install -e ".[llama]"')
    monkeypatch.setattr(export_measures, "POSITIONS", 30)
    monkeypatch.setattr(llama_proof, "hard_texts", lambda: hard_texts(10))
    sizes = {"vocab_size": TOKENS, "tie_word_embeddings": True, "hidden_size": 64, **STRONG}
    asked(tiny_model("llama", few_tokens, "tiny", **sizes))
    point._live.cache_clear()
    yield
    point._live.cache_clear()


def test_a_row_says_what_llama_cpp_makes_of_one_run(sweep, exporting, folder, monkeypatch):
    trained = []
    monkeypatch.setattr(
        export_measures, "finetune", lambda *given, **more: trained.append(1) or lk.finetune(*given, **more)
    )
    variants = [(LIVE, ""), ("gguf-f16", ""), ("gguf-adapter", ""), ("gguf-adapter", SCALE)]
    method = {"name": "lora", "rank": 4, "alpha": 64}
    made = [setting(0, method) | {"data": {"format": f, "fault": fault}} for f, fault in variants]
    sweep(*made)
    run_all()
    live, whole, adapter, lost = rows(folder)
    assert len(trained) == 1
    assert (live["same"], live["file_bytes"], live["proof"]) == (live["total"], 0, {})
    assert live["total"] == len(live["hits"]) == len(colour_task().test)
    for row in (whole, adapter):
        proof = GgufProof(**row["proof"])
        assert (proof.positions, beyond_bounds(proof)) == (30, "")
        assert row["hits"] == live["hits"]
        assert row["same"] == row["total"]
    assert lost["proof"]["kl"] > 10 * adapter["proof"]["kl"]
    assert 0 < adapter["file_bytes"] < whole["file_bytes"]


def test_the_sweep_has_each_gguf_format_and_the_lost_scale():
    made = {(each.data["format"], each.data["fault"]) for each in points("exports")}
    formats = {name for name in lk.exports.FORMATS if name.startswith("gguf")}
    assert made == {(LIVE, ""), ("gguf-adapter", SCALE), *((name, "") for name in formats)}
