"""GGUF among the formats of ``lk.export``: files for llama.cpp and Ollama, each proved in llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from labkit.exports.child import Answer
from labkit.exports.gguf_adapter import write_gguf_adapter
from labkit.exports.gguf_model import KINDS, write_gguf
from labkit.exports.llama_proof import GgufProof, prove_gguf
from labkit.exports.modelfile import write_modelfile
from labkit.exports.subject import Subject

ADAPTER = "adapter.gguf"
OLLAMA = "q8_0"  # what Ollama gets: half the size of 16 bits, and hardly another model
Write = Callable[[Subject, Path], None]
Prove = Callable[[Subject, Path, Answer | None], GgufProof]


def file_of(kind: str) -> str:
    """Return what the file with the merged model is called."""
    return f"model-{kind}.gguf"


def writer(kind: str) -> Write:
    """Return what writes the merged model as one GGUF file of a kind."""
    return lambda subject, folder: write_gguf(subject.model, folder / file_of(kind), kind)


def prover(kind: str) -> Prove:
    """Return what proves such a file in llama.cpp."""
    return lambda subject, folder, answer: prove_gguf(subject.reference, folder / file_of(kind), kind)


def write_ollama(subject: Subject, folder: Path) -> None:
    """Write the merged model in 8 bits, and the Modelfile from which ``ollama create`` makes a model."""
    write_gguf(subject.model, folder / file_of(OLLAMA), OLLAMA)
    write_modelfile(subject.model, folder / "Modelfile", file_of(OLLAMA))


def write_adapter(subject: Subject, folder: Path) -> None:
    """Write the adapter of LoRA as a GGUF file, for a GGUF file of the base model."""
    write_gguf_adapter(subject.model, folder / ADAPTER)


def prove_adapter(subject: Subject, folder: Path, answer: Answer | None) -> GgufProof:
    """Put the adapter on the base model in 16 bits, which is written for it, and compare both with the live model."""
    with TemporaryDirectory(dir=folder) as scratch:
        base = Path(scratch) / "base.gguf"
        write_gguf(subject.bare(), base, "f16")
        return prove_gguf(subject.reference, base, "f16", folder / ADAPTER)


FORMATS: dict[str, Write] = {f"gguf-{kind}": writer(kind) for kind in KINDS}
FORMATS |= {"gguf-adapter": write_adapter, "ollama": write_ollama}
PROOFS: dict[str, Prove] = {f"gguf-{kind}": prover(kind) for kind in KINDS}
PROOFS |= {"gguf-adapter": prove_adapter, "ollama": prover(OLLAMA)}
