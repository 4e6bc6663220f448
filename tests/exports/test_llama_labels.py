"""The accuracy in llama.cpp is that of lk.evaluate, where the file is the same model."""

import pytest
import torch
from tiny import colour_task

import labkit as lk
from labkit.evaluation.labels import label_probabilities, scored
from labkit.exports import llama_labels
from labkit.exports.gguf_model import write_gguf
from labkit.exports.llama import LlamaCpp
from labkit.exports.llama_labels import evaluate_in_llama


@pytest.mark.parametrize("likeliest", [1000, 3], ids=["among the likeliest", "not all listed"])
def test_labels_are_chosen_as_by_evaluate(small, tmp_path, monkeypatch, likeliest):
    pytest.importorskip("xllamacpp", reason='needs the extra llama: pip install -e ".[llama]"')
    monkeypatch.setattr(llama_labels, "LIKELIEST", likeliest)
    model, task = small(), colour_task()
    write_gguf(model, tmp_path / "a.gguf")
    seen = []
    monkeypatch.setattr(llama_labels, "scored", lambda task, found: seen.append(found) or scored(task, found))
    there = evaluate_in_llama(LlamaCpp(tmp_path / "a.gguf"), model, task)
    expected = label_probabilities(model, task.test["prompt"], task.labels)
    assert expected.std() > 0.1  # a model that is nearly undecided would hide mistakes
    torch.testing.assert_close(seen[0], expected, atol=0.01, rtol=0)
    here = lk.evaluate(model, task)
    assert (there.predictions, there.hits, there.interval) == (here.predictions, here.hits, here.interval)
