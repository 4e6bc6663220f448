"""Which weights of an export differ from the model's, and how: permuted rows, an update at another strength."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from labkit.exports import plain
from labkit.exports.subject import Subject
from labkit.methods.adapter_files import PREFIX
from labkit.methods.lora import LoRALinear
from labkit.methods.merging import MergeableLinear
from labkit.quant.matrix import turned


def changed_weights(subject: Subject, folder: Path, found: dict, *, adapter: bool = False) -> Iterator[str]:
    """Yield what is wrong with the weights that were loaded from a folder.

    Args:
        subject: what was exported.
        folder: the export.
        found: what plain transformers and PEFT found in it.
        adapter: compare the factors of LoRA instead of all weights.
    """
    wanted = _factors(subject) if adapter else _tensors(subject)
    if not adapter:
        tied = _head(subject.merged) is subject.merged.get_input_embeddings().weight
        if tied != found["tied"]:
            yield f"tied head: the head {'has weights of its own' if tied else 'shares the embedding'} there"
        if lost := found["missing"]:
            yield f"{'tied head' if tied and 'lm_head.weight' in lost else 'weights'}: {', '.join(lost[:3])} is missing"
    digests = plain.weights(_Named(wanted))
    wrong = [name for name, digest in digests.items() if found["weights"].get(name) != digest]
    if not wrong:
        return
    rotary = [name for name in wrong if "inv_freq" in name]
    if rotary:
        yield f"rope base: the frequencies of the rotary embedding differ ({rotary[0]})"
    stored = _stored(folder, PREFIX if adapter else "")
    kinds: dict[str, list[str]] = {}
    for name in sorted({*wrong} - {*rotary}):
        kinds.setdefault(_how(subject, name, stored.get(name), wanted[name]), []).append(name)
    for kind, names in kinds.items():
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        yield f"{kind}: {', '.join(names[:2])}{more}"


def _how(subject: Subject, name: str, found: torch.Tensor | None, wanted: torch.Tensor) -> str:
    """Return how a weight differs from the one that it should be."""
    if found is None or found.shape != wanted.shape:
        return "weights that are lost, or of another shape"
    found, wanted = found.float(), wanted.float()
    if (path := name.removesuffix(".weight")) in subject.adapters:
        layer = cast(MergeableLinear, subject.live().get_submodule(path))
        frozen = turned(layer.base, layer.frozen)
        update = turned(layer.base, layer.combined()["weight"]) - frozen
        share = ((found - frozen) * update).sum() / update.square().sum()
        rest = (found - frozen - share * update).norm()
        if rest < 0.5 * update.norm() and abs(share - 1) > 0.01:  # half: weights in 16 bits round most of an update
            return f"adapter scale: the update is in the weights {share:.3g} times"
    if found.ndim == 2 and torch.equal(*(torch.unique(each, dim=0) for each in (found, wanted))):
        return "permuted rows"
    return "other weights"


def _tensors(subject: Subject) -> dict[str, torch.Tensor]:
    return dict([*subject.merged.named_parameters(), *subject.merged.named_buffers()])


def _factors(subject: Subject) -> dict[str, torch.Tensor]:
    """Return A and B of each layer; that of DoRA's lengths, whose names PEFT changes, is left to the logits."""
    layers = {path: layer for path, layer in subject.adapters.items() if isinstance(layer, LoRALinear)}
    factors = {f"{path}.{key}": value for path, layer in layers.items() for key, value in layer.adapter_state().items()}
    return {name: value for name, value in factors.items() if name.endswith(("lora_A.weight", "lora_B.weight"))}


def _head(network: PreTrainedModel) -> torch.Tensor | None:
    return getattr(network.get_output_embeddings(), "weight", None)


def _stored(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors in the files of a folder."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {name.removeprefix(prefix): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


class _Named:
    """Tensors by name, as ``plain.weights`` asks a network for them."""

    def __init__(self, tensors: dict[str, torch.Tensor]):
        self.tensors = tensors

    def named_parameters(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self.tensors.items()

    def named_buffers(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from ()
