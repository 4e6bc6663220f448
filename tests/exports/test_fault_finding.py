"""What a learner sees of planted faults: the export is left alone, and each fault is named."""

import pytest

import labkit as lk
from labkit.exports import FAULTS, find_faults, llama_proof
from labkit.exports.probes import hard_texts

READ_BACK = {
    "wrong template": "the chat template",
    "missing end token": "the token that ends a text",
    "wrong rope base": "the base of the rotary positions",
    "permuted q and k": "has its rows in the order of transformers",
    "lost tied head": "output.weight is not of this model",
    "adapter scale forgotten": "is scaled with 1 instead of 4",
}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_fault_is_named_and_the_export_stays(tuned, tmp_path, monkeypatch):
    pytest.importorskip("xllamacpp", reason='needs the extra llama: pip install -e ".[llama]"')
    monkeypatch.setattr(llama_proof, "hard_texts", lambda: hard_texts(10))
    # A random model is nearly undecided between tokens: 8 bits change its likeliest one more often than a real model's.
    monkeypatch.setitem(llama_proof.BOUNDS, "q8_0", (0.8, llama_proof.BOUNDS["q8_0"][1]))
    made = lk.export(tuned, tmp_path / "tuned", ["gguf-q8_0", "gguf-adapter"])
    before = contents(made.folder)
    found = {each.fault: each for each in find_faults(tuned, made)}
    assert found.keys() == FAULTS.keys() == READ_BACK.keys()
    for name, words in READ_BACK.items():
        assert words in found[name].read_back
        assert found[name].in_llama_cpp, name
    assert contents(made.folder) == before
    monkeypatch.setitem(FAULTS, "none", lambda *content: None)
    (none,) = find_faults(tuned, made, ["none"])
    assert (none.read_back, none.in_llama_cpp) == ("", "")


def test_what_cannot_be_planted_is_refused(run, made):
    for faults, cause in ((["rope"], "no fault called 'rope'"), (["wrong rope base"], "has no file for 'wrong rope")):
        with pytest.raises(lk.LabkitError, match=cause):
            find_faults(run, made[0], faults)
