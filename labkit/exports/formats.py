"""The formats: what writes each into an empty folder, and what proves it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel

from labkit.errors import LabkitError
from labkit.exports import gguf_formats
from labkit.exports.child import Job
from labkit.exports.llama_proof import GgufProof
from labkit.exports.proofs import Proof, prove_peft, prove_safetensors
from labkit.exports.subject import Subject

BASE = "base"  # the folder of the base model, in the scratch folder


def write_safetensors(subject: Subject, folder: Path) -> None:
    """Write the merged model as a folder for ``AutoModelForCausalLM.from_pretrained``."""
    write_network(subject.merged, generation_config(subject), folder)
    subject.model.tokenizer.save_pretrained(folder)


def write_peft(subject: Subject, folder: Path) -> None:
    """Write the adapter for ``PeftModel.from_pretrained``, with the tokenizer and the tokens that end a reply.

    Raises:
        LabkitError: there is no adapter, or it doesn't show how it was made.
    """
    if not subject.adapters:
        raise LabkitError(f"{subject.model.name} has no adapter.", 'Export it with formats=("safetensors",).')
    subject.method.save(subject.model, folder)
    generation_config(subject).save_pretrained(folder)
    subject.model.tokenizer.save_pretrained(folder)


def write_network(network: PreTrainedModel, generation: GenerationConfig, folder: Path) -> None:
    """Write config, generation config and weights of a network in float32: in 16 bits where that loses nothing."""
    stored = nn.Module.to(copy.deepcopy(network), lossless(network))
    stored.generation_config = generation
    stored.save_pretrained(folder)


def lossless(network: PreTrainedModel) -> torch.dtype:
    """Return the smallest type that holds every weight to the last bit."""
    for dtype in (torch.bfloat16, torch.float16):
        if all(torch.equal(weight.to(dtype).to(weight.dtype), weight) for weight in network.state_dict().values()):
            return dtype
    return torch.float32


def generation_config(subject: Subject) -> GenerationConfig:
    """Return the model's generation config with every token that ends a reply."""
    config = copy.deepcopy(getattr(subject.model.module, "generation_config", None)) or GenerationConfig()
    ends = subject.ends
    config.eos_token_id = ends if len(ends) > 1 else ends[0] if ends else None
    if config.pad_token_id is None:
        config.pad_token_id = subject.model.tokenizer.pad_token_id
    return config


def job(subject: Subject, folder: Path, scratch: Path) -> Job | None:
    """Return what the process without labkit is to read, if it is for it.

    An adapter's base model is written into ``scratch`` first.
    """
    if (folder / "adapter_config.json").exists():
        if not (scratch / BASE).exists():
            write_network(subject.base(), generation_config(subject), scratch / BASE)
        return Job(str(folder), str(scratch / BASE), subject.attention)
    return None if any(folder.glob("*.gguf")) else Job(str(folder), attention=subject.attention)


FORMATS: dict[str, Callable[[Subject, Path], None]] = {"safetensors": write_safetensors, "peft": write_peft}
FORMATS |= gguf_formats.FORMATS
# Each proves a format, from the answer of plain transformers and PEFT where these read it.
PROOFS: dict[str, Callable[[Subject, Path, Any], Proof | GgufProof]]
PROOFS = {"safetensors": prove_safetensors, "peft": prove_peft, **gguf_formats.PROOFS}
# The packages that the proofs need beside transformers.
NEEDS = {"peft": "peft"} | dict.fromkeys(gguf_formats.FORMATS, "xllamacpp")
