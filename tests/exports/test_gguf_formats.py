"""GGUF files in an export: proved in llama.cpp beside the other formats."""

import pytest

import labkit as lk
from labkit.exports import FORMATS, PROOFS, ExportError, llama_proof
from labkit.exports.formats import NEEDS
from labkit.exports.probes import hard_texts


@pytest.fixture(autouse=True)
def few_texts(monkeypatch):
    pytest.importorskip("xllamacpp", reason='needs the extra llama: pip install -e ".[llama]"')
    monkeypatch.setattr(llama_proof, "hard_texts", lambda: hard_texts(10))


def test_each_has_a_proof_and_says_what_it_needs():
    assert FORMATS.keys() == PROOFS.keys() == NEEDS.keys() | {"safetensors"}


def test_the_files_and_the_card_hold_what_llama_cpp_said(tuned, tmp_path, monkeypatch):
    # A random model is nearly undecided between tokens: 8 bits change its likeliest one more often than a real model's.
    monkeypatch.setitem(llama_proof.BOUNDS, "q8_0", (0.8, llama_proof.BOUNDS["q8_0"][1]))
    made = lk.export(tuned, tmp_path / "tuned", ["gguf-f16", "gguf-adapter", "ollama"])
    files = {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()}
    assert files == {
        *("README.md", "run.json", "gguf-f16/model-f16.gguf", "gguf-adapter/adapter.gguf"),
        *("ollama/model-q8_0.gguf", "ollama/Modelfile"),
    }
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    for proof in made.proofs.values():
        assert proof.positions > 50
        assert f"the same likeliest token at {proof.agreement:.1%}" in card


def test_what_llama_cpp_finds_wrong_fails_the_export(tuned, tmp_path, monkeypatch):
    def refuse(subject, folder, answer):
        raise ExportError("another model", "Write it again.")

    monkeypatch.setitem(PROOFS, "gguf-f16", refuse)
    with pytest.raises(ExportError, match="as gguf-f16, another model") as caught:
        lk.export(tuned, tmp_path / "tuned", "gguf-f16")
    assert caught.value.faults == {"gguf-f16": ["another model"]}
    assert not [*tmp_path.iterdir()]
