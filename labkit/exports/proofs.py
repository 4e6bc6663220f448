"""Compare what plain transformers and PEFT made of an export with the model in memory, and name what is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from labkit.evaluation.difference import compared
from labkit.exports.child import Answer
from labkit.exports.errors import not_the_model
from labkit.exports.files import changed_config, changed_files
from labkit.exports.subject import Subject
from labkit.exports.weights import changed_weights
from labkit.methods.lora import LoRALinear

# Of the largest logit, where PEFT computes an adapter in another order than labkit: a hundred roundings of float32.
BOUND = 1e-5


@dataclass(frozen=True)
class Proof:
    """What was measured on an export that passed.

    Attributes:
        format: of the export.
        reader: what read it, in a process without labkit.
        texts: how many texts gave the same tokens.
        conversations: how many conversations, closed and up to a reply, the chat template wrote alike.
        positions: at how many tokens the logits were compared, in float32.
        difference: the largest difference of a logit from the model's that was exported; 0 means the same bits.
        bound: how large it might have been.
        from_live: the largest difference of a logit from the model with its adapter beside the weights.
        kl: the mean KL divergence from that model's predictions, in nats.
        agreement: the share of tokens after which both have the same likeliest token.
    """

    format: str
    reader: str
    texts: int
    conversations: int
    positions: int
    difference: float
    bound: float
    from_live: float
    kl: float
    agreement: float

    def __str__(self) -> str:
        same = (
            "the same bits"
            if self.difference == 0
            else f"at most {self.difference:.1e} apart (allowed: {self.bound:.1e})"
        )
        live = ""
        if self.from_live != self.difference:
            live = f"{self.from_live:.1e} from the live adapter's at most, KL divergence {self.kl:.1e} nats, "
        return (
            f"read by {self.reader}. Logits at {self.positions} tokens: {same}; {live}the same likeliest token after "
            f"{self.agreement:.1%}. Equal: the tokens of {self.texts} texts, {self.conversations} conversations as the "
            "chat template writes them, the tokens that end a reply."
        )


def prove_safetensors(subject: Subject, folder: Path, answer: Answer) -> Proof:
    """Compare a merged model with the one in memory: every weight, every setting, logits to the last bit.

    Raises:
        ExportError: something differs; it is named.
    """
    found = answer.found
    faults = list(changed_files(subject, found))
    if "error" not in found:
        faults += changed_config(subject.merged.config.to_json_string(use_diff=False), found["config"])
        faults += changed_weights(subject, folder, found)
    return _proof("safetensors", "transformers", subject, answer, faults, subject.merged_logits, 0.0)


def prove_peft(subject: Subject, folder: Path, answer: Answer) -> Proof:
    """Compare an adapter on its base model with the live model: scales, factors, and logits.

    Logits have the same bits where PEFT computes in the same order; see ``Subject.exact``.

    Raises:
        ExportError: something differs; it is named.
    """
    found = answer.found
    faults = list(changed_files(subject, found))
    if "error" not in found:
        for path, layer in subject.adapters.items():
            there = found["scales"].get(path, math.nan)
            if isinstance(layer, LoRALinear) and not math.isclose(there, layer.scale):
                faults.append(f"adapter scale: {path} is scaled by {there} there, and by {layer.scale} here")
                break
        faults += changed_weights(subject, folder, found, adapter=True)
    wanted = subject.live_logits
    bound = 0.0 if subject.exact else BOUND * max(rows.abs().max().item() for rows in wanted)
    return _proof("peft", "transformers and PEFT", subject, answer, faults, wanted, bound)


def _proof(
    name: str,
    reader: str,
    subject: Subject,
    answer: Answer,
    faults: list[str],
    wanted: list[torch.Tensor],
    bound: float,
) -> Proof:
    """Return the proof, or raise an ``ExportError`` with all faults."""
    difference = float("nan")
    if "error" not in answer.found:
        difference = compared(wanted, answer.logits).largest
        if not difference <= bound:
            faults.append(f"logits: up to {difference:.2g} from the model's, where {bound:.2g} is allowed")
    if faults:
        raise not_the_model(subject.model.name, {name: faults})
    live = compared(subject.live_logits, answer.logits)
    return Proof(
        format=name,
        reader=reader,
        texts=len(subject.ids),
        conversations=sum(text is not None for text in subject.rendered),
        positions=live.positions,
        difference=difference,
        bound=bound,
        from_live=live.largest,
        kl=live.kl,
        agreement=live.agreement,
    )
