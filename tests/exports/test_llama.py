"""llama.cpp itself reads the files: its tokens, templates, ends and predictions are the model's."""

import math
import sys

import pytest
import torch
from gguf_faults import FOUND
from tokenizers import pre_tokenizers

from labkit.errors import LabkitError
from labkit.exports import llama_proof
from labkit.exports.errors import ExportError
from labkit.exports.faults import SCALE, plant
from labkit.exports.gguf_adapter import write_gguf_adapter
from labkit.exports.gguf_model import KINDS, write_gguf
from labkit.exports.llama import LlamaCpp
from labkit.exports.llama_predictions import divergence
from labkit.exports.llama_proof import BOUNDS, measure, prove_gguf
from labkit.exports.probes import hard_texts
from labkit.exports.reference import Reference
from labkit.extras import MissingPackageError

NEEDED = 'needs the extra llama: pip install -e ".[llama]"'
POSITIONS = 40  # of the first text; few, to be quick


@pytest.fixture
def llama_cpp():
    pytest.importorskip("xllamacpp", reason=NEEDED)
    return LlamaCpp


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingPackageError) as caught:
        LlamaCpp(tmp_path / "a.gguf")
    assert ".[llama]" in caught.value.remedy


def test_a_file_that_is_none_is_refused(llama_cpp, tmp_path):
    (tmp_path / "a.gguf").write_text("nothing")
    with pytest.raises(ExportError, match=r"llama.cpp cannot load a.gguf"):
        llama_cpp(tmp_path / "a.gguf")


@pytest.mark.parametrize("tied", [True, False])
def test_the_same_model_answers_in_llama_cpp(llama_cpp, small, tmp_path, tied):
    model = small(tie_word_embeddings=tied)
    write_gguf(model, tmp_path / "a.gguf")
    proof = prove_gguf(Reference.of(model), tmp_path / "a.gguf", "f16")
    assert (proof.strings, proof.conversations, proof.ends, proof.positions) == (1000, 4, 2, 150)
    print(proof)
    assert 0 <= proof.kl < 1e-4
    assert proof.greedy > 0.9


def test_what_is_compared_is_what_the_model_says(small):
    model = small()
    reference = Reference.of(model, 500)
    assert sum(map(len, reference.rows)) == 500
    with torch.no_grad():
        row = torch.tensor(reference.rows[3:4])
        torch.testing.assert_close(reference.logits[3], model.module(row).logits[0], atol=1e-4, rtol=0)
        start, answer = reference.starts[1], reference.answers[1]
        for token in answer:
            assert int(model.module(torch.tensor([start])).logits[0, -1].argmax()) == token
            start = [*start, token]
    with pytest.raises(LabkitError, match="not for 100000"):
        Reference.of(model, 100_000)


def test_fewer_bits_predict_worse_and_a_bound_is_held(llama_cpp, small, tmp_path, monkeypatch):
    monkeypatch.setattr(llama_proof, "hard_texts", lambda: hard_texts(10))
    model, kl = small(), []
    reference = Reference.of(model, POSITIONS)
    for kind in KINDS:
        write_gguf(model, tmp_path / f"{kind}.gguf", kind)
        kl.append(measure(reference, llama_cpp(tmp_path / f"{kind}.gguf")).kl)
    print(kl)
    assert kl == sorted(kl)
    assert kl[1] < BOUNDS["q8_0"][1]
    monkeypatch.setitem(BOUNDS, "q4_0", (0.0, kl[2] / 2))
    with pytest.raises(ExportError, match=r"predicts other tokens: .* KL divergence is"):
        prove_gguf(reference, tmp_path / "q4_0.gguf", "q4_0")


def test_llama_cpp_puts_the_adapter_on_the_base(llama_cpp, small, tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(llama_proof, "hard_texts", lambda: hard_texts(10))
    write_gguf(small(), tmp_path / "base.gguf")
    write_gguf_adapter(tuned, tmp_path / "adapter.gguf")
    reference = Reference.of(tuned, POSITIONS)
    proof = prove_gguf(reference, tmp_path / "base.gguf", "f16", tmp_path / "adapter.gguf")
    assert proof.kl < 1e-4
    assert measure(reference, llama_cpp(tmp_path / "base.gguf")).kl > 100 * proof.kl
    forgotten = plant(SCALE, tmp_path / "adapter.gguf", tmp_path / "scaleless.gguf")
    scaleless = measure(reference, llama_cpp(tmp_path / "base.gguf", forgotten))
    assert scaleless.kl > BOUNDS["f16"][1]


@pytest.mark.parametrize(("fault", "tied", "named"), FOUND)
def test_planted_faults_show_in_llama_cpp_too(llama_cpp, small, tmp_path, monkeypatch, fault, tied, named):
    monkeypatch.setattr(llama_proof, "hard_texts", lambda: hard_texts(10))
    model = small(tie_word_embeddings=tied)
    write_gguf(model, tmp_path / "good.gguf")
    llama = llama_cpp(plant(fault, tmp_path / "good.gguf", tmp_path / "bad.gguf"))
    reference = Reference.of(model, POSITIONS)
    said = {"wrong template": "its chat template writes", "missing end token": "does not end at '<jupyter_output>'"}
    if fault in said:
        with pytest.raises(ExportError, match=said[fault]):
            measure(reference, llama)
    else:
        assert measure(reference, llama).kl > BOUNDS["f16"][1]


def test_all_tokens_of_smollm2_are_split_alike(llama_cpp, tiny, tmp_path):
    write_gguf(tiny, tmp_path / "a.gguf", "q8_0")
    proof = measure(Reference.of(tiny, 10), llama_cpp(tmp_path / "a.gguf"))
    assert (proof.strings, proof.conversations, proof.ends) == (1000, 4, 1)


def test_gpt_2s_rule_for_texts_is_llama_cpps(llama_cpp, small, few_tokens, tmp_path, monkeypatch):
    rule = pre_tokenizers.ByteLevel(add_prefix_space=False)
    monkeypatch.setattr(few_tokens.backend_tokenizer, "pre_tokenizer", rule)
    write_gguf(small(), tmp_path / "a.gguf")
    llama = llama_cpp(tmp_path / "a.gguf")
    for text in hard_texts():
        assert llama.ids(text) == few_tokens(text, add_special_tokens=False)["input_ids"], text


def test_the_divergence_counts_what_was_not_listed_as_one_token():
    here, there = torch.tensor([0.5, 0.3, 0.1, 0.1]).double().log(), {0: math.log(0.4), 1: math.log(0.4)}
    expected = 0.5 * math.log(0.5 / 0.4) + 0.3 * math.log(0.3 / 0.4) + 0.2 * math.log(0.2 / 0.2)
    assert divergence(here, there) == pytest.approx(expected)
