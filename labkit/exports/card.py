"""The model card: what is known of an export, and no more, as the README.md that model hubs show."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from labkit.assets.manifest import load_manifest
from labkit.errors import LabkitError, shown
from labkit.evaluation.results import Evaluation, Forgetting
from labkit.exports.llama_proof import GgufProof
from labkit.exports.proofs import Proof
from labkit.exports.subject import Subject
from labkit.runs.run import Run
from labkit.tasks.course import COURSE, licence_of, source_of

CARD = "README.md"
PACKAGES = ("finetune-labkit", "torch", "transformers", "peft", "safetensors", "tokenizers", "gguf", "xllamacpp")
UNKNOWN = "not known to labkit"


def card(
    subject: Subject,
    proofs: Mapping[str, Proof | GgufProof],
    evaluations: Mapping[str, Evaluation],
    forgetting: Forgetting | None,
) -> str:
    """Return the model card of an export.

    Args:
        subject: what was exported.
        proofs: what was measured on each format.
        evaluations: accuracies by what was tested; without them the card says that none were given.
        forgetting: how much worse the model became at general English.
    """
    run, loaded_as = subject.run, subject.origin["name"]
    name, asset = _plain_name(loaded_as), load_manifest().get(loaded_as)
    title = f"{name}, tuned on {run.task}" if run else name
    sections = {
        "Base model": _base(subject, name),
        "Training data": _data(run),
        "Method": _method(subject, run),
        "Evaluation": _evaluation(evaluations),
        "Forgetting": _forgetting(forgetting),
        "Files, and what their proofs measured": [
            f"- `{format}/`: {_text(str(proof))}" for format, proof in proofs.items()
        ],
        "Use": _use(proofs, name),
        "Versions": _list(dict(_versions())),
        "Limits": [
            "Bias, safety and behaviour beyond the numbers above were not examined. The proofs say that other software "
            "computes what labkit did, within what is said above; not that the answers are right."
        ],
    }
    body = "\n\n".join(f"## {heading}\n\n" + "\n".join(lines) for heading, lines in sections.items() if lines)
    return f"{_front(name, asset.licence if asset else '', run)}\n# {_text(title)}\n\n{body}\n"


def require_measured(evaluations: object, forgetting: object) -> None:
    """Raise a ``LabkitError`` where an evaluation or a measure of forgetting is something else."""
    if not isinstance(evaluations, Mapping):
        raise LabkitError(f"{shown(evaluations)} has no names.", "Pass evaluations={name: lk.evaluate(…)}.")
    for each in evaluations.values():
        if not isinstance(each, Evaluation):
            raise LabkitError(f"{shown(each)} is no evaluation.", "Pass evaluations={name: lk.evaluate(…)}.")
    if forgetting is not None and not isinstance(forgetting, Forgetting):
        raise LabkitError(f"{shown(forgetting)} isn't what lk.forgetting returns.", "Pass forgetting=lk.forgetting(…).")


def _front(base: str, licence: str, run: Run | None) -> str:
    """Return the metadata that hubs read, as YAML; JSON's strings are YAML's too."""
    lines = [f"base_model: {json.dumps(base)}", "library_name: transformers", "pipeline_tag: text-generation"]
    lines += [f"license: {json.dumps(licence.lower())}"] if licence else []
    lines += [f"tags: {json.dumps(['finetune-labkit', *([run.method.name] if run else [])])}"]
    return "\n".join(["---", *lines, "---", ""])


def _base(subject: Subject, name: str) -> list[str]:
    base = subject.origin
    asset, quantization = load_manifest().get(base["name"]), base["quantization"]
    return _list(
        {
            "name": name,
            "what": asset.description if asset else None,
            "licence": asset.licence if asset else UNKNOWN,
            "cite": asset.source if asset else None,
            "fingerprint of the weights": base["fingerprint"],
            "computed in": base["precision"],
            "weights in 4 bits": quantization,
            "changed since it was loaded": None if subject.run or subject.adapters else UNKNOWN,
        }
    )


def _data(run: Run | None) -> list[str]:
    if run is None:
        return [f"Training data: {UNKNOWN}; the model was exported without its run."]
    own = run.task not in COURSE
    return _list(
        {
            "task": run.task,
            "source, to be cited": UNKNOWN if own else source_of(run.task),
            "licence": UNKNOWN if own else licence_of(run.task),
        }
    )


def _method(subject: Subject, run: Run | None) -> list[str]:
    if run is None:
        return []
    known = {"trained numbers": f"{run.trained_parameters:,}", "steps made": len(run.history)}
    known |= {f"{name}": value for name, value in run.method.to_dict().items() if name != "learning_rate"}
    known |= asdict(run.config) | ({"rewards": asdict(run.rl)} if run.rl else {})
    rows = [f"| {_text(key)} | {_text(value)} |" for key, value in known.items() if value is not None]
    return ["| setting | value |", "|---|---|", *rows]


def _evaluation(evaluations: Mapping[str, Evaluation]) -> list[str]:
    if not evaluations:
        return ["No evaluation was given to the export."]
    rows = ["| tested on | accuracy | 95% interval | examples |", "|---|---|---|---|"]
    for name, each in evaluations.items():
        low, high = each.interval
        rows.append(f"| {_text(name)} | {each.accuracy:.1%} | {low:.1%} to {high:.1%} | {each.total} |")
    return rows


def _forgetting(forgetting: Forgetting | None) -> list[str]:
    if forgetting is None:
        return ["Not given to the export."]
    if not isinstance(forgetting, Forgetting):
        raise LabkitError(
            f"{shown(forgetting)} is not what lk.forgetting returns.", "Pass forgetting=lk.forgetting(…)."
        )
    return [
        f"Mean loss on the texts that `lk.forgetting` was given, in nats per token: {forgetting.before:.3f} before, "
        f"{forgetting.after:.3f} after, a rise of {forgetting.rise:+.3f}."
    ]


def _use(proofs: Collection[str], base: str) -> list[str]:
    code = {
        "safetensors": 'model = AutoModelForCausalLM.from_pretrained("safetensors")',
        "peft": f'model = PeftModel.from_pretrained(base, "peft")  # base: {json.dumps(base)}, the weights named above',
    }
    lines = [code[format] for format in proofs if format in code]
    tokenizer = [f'tokenizer = AutoTokenizer.from_pretrained("{format}")' for format in proofs if format in code][:1]
    block = ["```python", *lines, *tokenizer, "```"] if lines else []
    ollama = (
        "`ollama create NAME -f Modelfile` in the folder `ollama`. llama.cpp read its GGUF file; Ollama was not run."
    )
    return [*block, *([ollama] if "ollama" in proofs else [])]


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue  # an extra that isn't installed


def _list(known: Mapping[str, Any]) -> list[str]:
    return [f"- {key}: {_text(value)}" for key, value in known.items() if value is not None]


def _plain_name(name: str) -> str:
    """Return the name of a model without the path of this computer, where it was loaded from a folder."""
    path = Path(name)
    return path.name if path.is_absolute() or path.is_dir() else name


def _text(value: object) -> str:
    """Return a value on one line, with nothing that Markdown or HTML would read as its own."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(value).split()))
