"""Prove that a GGUF file is the same model in llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from labkit.conversations.templates import render
from labkit.errors import shown
from labkit.exports.errors import ExportError
from labkit.exports.gguf_adapter import check_gguf_adapter
from labkit.exports.gguf_check import AGAIN, check_gguf
from labkit.exports.gguf_tokenizer import all_ends, chat_template
from labkit.exports.likeness import first_difference
from labkit.exports.llama import LlamaCpp
from labkit.exports.llama_predictions import greedy, predictions
from labkit.exports.probes import conversations, hard_texts
from labkit.exports.reference import Reference

# Per kind: the smallest share of positions with the same likeliest token, and the largest mean KL divergence in nats.
# A small model suffers most. SmolLM2-135M had 100%, 95% and 69%, and 0.00003, 0.009 and 0.6 nats.
BOUNDS = {"f16": (0.97, 1e-3), "q8_0": (0.9, 0.03), "q4_0": (0.5, 1.5)}


@dataclass(frozen=True)
class GgufProof:
    """What was compared between a model and a GGUF file of it in llama.cpp.

    Attributes:
        kind: of the file.
        errors: the largest error of a weight by how it is stored; see ``check_gguf``.
        strings: texts whose tokens are the same.
        conversations: rendered to the same text; 0 where the tokenizer has no chat template.
        ends: tokens that end a text in llama.cpp as they do here.
        positions: where the next token was predicted by both.
        agreement: the share of positions with the same likeliest token.
        kl: the mean KL divergence of llama.cpp's prediction from the model's, in nats; tokens that are not among
            llama.cpp's 1000 likeliest count as one, so the full divergence is a little larger.
        greedy: the share of greedily written tokens that are the same up to the first difference of each answer.
    """

    kind: str
    errors: dict[str, float]
    strings: int
    conversations: int
    ends: int
    positions: int
    agreement: float
    kl: float
    greedy: float

    def __str__(self) -> str:
        weights = ", ".join(f"{error:.1e} in {stored}" for stored, error in self.errors.items())
        least, most = BOUNDS[self.kind]
        return (
            f"read by llama.cpp. At {self.positions} positions, the same likeliest token at {self.agreement:.1%} "
            f"(allowed: {least:.0%}), KL divergence {self.kl:.1e} nats (allowed: {most:g}); greedy answers alike up to "
            f"{self.greedy:.0%} of their length. Largest error of a weight: {weights}. Equal: the tokens of "
            f"{self.strings} texts, {self.conversations} rendered conversations, {self.ends} tokens that end a text."
        )


def prove_gguf(reference: Reference, path: str | Path, kind: str, adapter: str | Path | None = None) -> GgufProof:
    """Compare a model with a GGUF file of it: the file's content, then what llama.cpp makes of it.

    Args:
        reference: what the model says.
        path: the GGUF file; with ``adapter``, that of the base model.
        kind: ``"f16"``, ``"q8_0"`` or ``"q4_0"``.
        adapter: the GGUF file of the model's adapter, which llama.cpp puts on the base.

    Raises:
        ExportError: something differs, or differs by more than the kind's bound; the fault is named.
        MissingPackageError: xllamacpp is not installed.
    """
    if adapter is None:
        errors = check_gguf(reference.model, path, kind)
    else:
        errors = {"LoRA": check_gguf_adapter(reference.model, adapter)}
    proof = replace(measure(reference, LlamaCpp(path, adapter)), kind=kind, errors=errors)
    if fault := beyond_bounds(proof):
        raise _other(path, fault)
    return proof


def beyond_bounds(proof: GgufProof) -> str:
    """Return what a proof measured beyond the bounds of its kind, or "" if there is nothing."""
    least, most = BOUNDS[proof.kind]
    if proof.agreement >= least and proof.kl <= most:
        return ""
    return (
        f"it predicts other tokens: at {proof.positions} positions the likeliest token is the same at "
        f"{proof.agreement:.1%} (at least {least:.0%} for {proof.kind}), and the KL divergence is {proof.kl:.2g} nats "
        f"(at most {most:g})"
    )


def measure(reference: Reference, llama: LlamaCpp) -> GgufProof:
    """Return what ``prove_gguf`` measures in llama.cpp alone, without bounds.

    Raises:
        ExportError: tokens, conversations or what ends a text differ.
    """
    model, hard = reference.model, hard_texts()
    tokenizer = model.tokenizer
    for text in hard:
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        if (found := llama.ids(text)) != expected:
            raise _other(llama.name, f"it reads {shown(text)} as the tokens {shown(found)}, not {shown(expected)}")
    if llama.ids("a", special=True) != (expected := tokenizer("a")["input_ids"]):
        raise _other(llama.name, f"it does not put around every text what the tokenizer puts there: {expected}")
    asked = conversations() if chat_template(model) else []
    for messages in asked:
        here, there = render(tokenizer, messages, reply=True), llama.rendered(messages)
        if there != here:
            raise _other(llama.name, f"its chat template writes {first_difference(there, here)}")
    ends = all_ends(model)
    for token in sorted(ends):
        if not llama.stops_at(token):
            raise _other(llama.name, f"an answer does not end at {tokenizer.decode([token])!r} (token {token})")
    agreement, kl = predictions(reference, llama)
    return GgufProof(
        "", {}, len(hard), len(asked), len(ends), len(agreement), float(np.mean(agreement)), float(np.mean(kl)),
        greedy(reference, llama),
    )  # fmt: skip


def _other(path: str | Path, what: str) -> ExportError:
    return ExportError(
        f"{Path(path).name} is another model in llama.cpp: {what}.",
        f"Don't ship this file. {AGAIN}",
    )
