"""Export a model: write each format, prove each, and only then give the folder its name."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from shutil import rmtree

from labkit.assets.quiet import quiet_transformers
from labkit.errors import LabkitError, first_line, require_count, unknown
from labkit.evaluation.results import Evaluation, Forgetting
from labkit.exports import child
from labkit.exports.card import CARD, card, require_measured
from labkit.exports.errors import ExportError, not_the_model
from labkit.exports.formats import FORMATS, NEEDS, PROOFS, job
from labkit.exports.llama_proof import GgufProof
from labkit.exports.proofs import Proof
from labkit.exports.reference import POSITIONS
from labkit.exports.subject import Subject
from labkit.extras import unusable
from labkit.memory.free import return_freed_memory
from labkit.models.model import Model
from labkit.runs.places import new_place
from labkit.runs.run import Run
from labkit.storage import folders, ownership, records
from labkit.storage.files import write_text

KEYS = ("base", "formats", "proofs")
SCRATCH = "proving"  # beside the formats while they are proved


@dataclass(frozen=True)
class Exported:
    """An export that was proved.

    Attributes:
        folder: a folder for each format, the model card README.md, and labkit's record.
        proofs: what was measured, by format.
    """

    folder: Path
    proofs: dict[str, Proof | GgufProof]

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        return "\n".join([f"exported to {self.folder}", *(f"{name}: {proof}" for name, proof in self.proofs.items())])


def export(
    run_or_model: Run | Model,
    folder: str | Path,
    formats: Sequence[str] = ("safetensors", "peft"),
    *,
    evaluations: Mapping[str, Evaluation] | None = None,
    forgetting: Forgetting | None = None,
    positions: int = POSITIONS,
    overwrite: bool = False,
) -> Exported:
    """Write a model for other software, prove that this computes the same, and return where it is.

    Each format gets a folder of its own, with tokenizer, chat template and the tokens that end a reply. A process that
    cannot import labkit reads them with plain transformers and PEFT, in float32 and by one thread; its logits,
    tokens and rendered conversations are compared with the model's. What fails is named, and then nothing is left.

    - ``"safetensors"``: the model with its adapter merged as ``lk.merge`` does. Its logits are the merged model's, bit
      for bit; the proof says how far these are from the live adapter's.
    - ``"peft"``: the adapter, for the base model that its adapter_config.json names. Its logits are the live model's,
      bit for bit where PEFT computes in labkit's order, that is for a LoRA whose scale is a power of two.
    - ``"gguf-f16"``, ``"gguf-q8_0"``, ``"gguf-q4_0"``: the merged model of a Llama as one file for llama.cpp, which
      proves it; ``"ollama"`` adds a Modelfile to the second, and ``"gguf-adapter"`` is the adapter of LoRA alone.

    README.md is a model card made from the run: what isn't known isn't in it.

    Args:
        run_or_model: what ``lk.finetune`` or ``lk.reinforce`` returned; or a causal model, whose card then says less.
        folder: a plain name is kept under LABKIT_HOME/exports; a path is taken as it is.
        formats: names in ``labkit.exports.FORMATS``.
        evaluations: what ``lk.evaluate`` returned, by what was tested, for the card.
        forgetting: what ``lk.forgetting`` returned, for the card.
        positions: at how many the next token is compared in llama.cpp, up to about 500. Each takes 20 to 60 ms for
            each GGUF format; 150 show that a file is the model, and more make its mean KL divergence steadier.
        overwrite: replace an export of that name. Nothing but an export is ever replaced.

    Raises:
        ExportError: an export isn't the model; nothing is left of it, and an older export stays as it was.
        LabkitError: nothing that can be exported, an unknown format, something else in the folder, the disk is full, or
            PEFT or xllamacpp, which the proof needs, is missing.
    """
    names = _names(formats)
    subject = Subject.of(run_or_model, require_count("positions", positions))
    evaluations = evaluations or {}
    require_measured(evaluations, forgetting)
    final = new_place(folder, "exports")
    check = partial(ownership.require_ours, kind="export", keys=KEYS, files=())
    with quiet_transformers(), folders.new_folder(final, replace=overwrite, check=check) as new:
        for name in names:
            (new / name).mkdir()
            with _explained():
                FORMATS[name](subject, new / name)
        proofs = _prove(subject, names, new)
        write_text(new / CARD, card(subject, proofs, evaluations, forgetting))
        content = {
            "base": subject.origin,
            "formats": names,
            "proofs": {name: asdict(proof) for name, proof in proofs.items()},
        }
        records.write_record(new, "export", content)
        del subject  # and its copies of the model
        return_freed_memory()
        for path in [new, *new.rglob("*")]:  # readable by all: temporary folders are the owner's alone
            path.chmod(0o755 if path.is_dir() else 0o644)
    return Exported(final, proofs)


def _prove(subject: Subject, names: Sequence[str], folder: Path) -> dict[str, Proof | GgufProof]:
    scratch = folder / SCRATCH
    scratch.mkdir()
    with _explained():
        jobs = {name: asked for name in names if (asked := job(subject, folder / name, scratch))}
    proofs: dict[str, Proof | GgufProof] = {}
    faults: dict[str, list[str]] = {}

    def prove(name: str, answer: child.Answer | None) -> None:
        try:
            proofs[name] = PROOFS[name](subject, folder / name, answer)
        except ExportError as problem:
            faults[name] = [fault for several in problem.faults.values() for fault in several] or [
                problem.cause.rstrip(".")
            ]

    with ThreadPoolExecutor(1) as beside:  # llama.cpp is asked here while the other process computes
        reading = beside.submit(child.ask, jobs, subject.prompts, scratch) if jobs else None
        for name in names:
            if name not in jobs:
                prove(name, None)
        answers = reading.result() if reading else {}
    rmtree(scratch)
    for name in jobs:
        prove(name, answers[name])
    if faults:
        raise not_the_model(subject.model.name, {name: faults[name] for name in names if name in faults})
    return {name: proofs[name] for name in names}


def _names(formats: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys([formats] if isinstance(formats, str) else formats))
    for name in names:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    if not names:
        raise LabkitError("There is no format to export to.", f"Choose among {', '.join(FORMATS)}.")
    for package in sorted({NEEDS[name] for name in names if name in NEEDS}):
        try:
            import_module(package)
        except Exception as problem:  # a broken installation raises anything
            raise unusable(package, problem, 'pass formats=("safetensors",)') from problem
    return names


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what transformers and tokenizers raise where they cannot write into what ``labkit.storage`` explains."""
    try:
        yield
    except (LabkitError, OSError):
        raise
    except Exception as problem:
        if "No space left" in str(problem):  # tokenizers raises a bare Exception
            raise OSError(errno.ENOSPC, str(problem)) from problem
        if isinstance(problem, ValueError):  # a generation config that contradicts itself is not written
            raise LabkitError(
                f"transformers refuses to write the model: {first_line(problem)}.",
                "Change that in model.module.generation_config or model.module.config.",
            ) from problem
        raise
