"""What is exported: a model, what made it, and the same in float32, which exports are compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import PreTrainedModel

from labkit.errors import LabkitError, shown
from labkit.exports import plain
from labkit.exports.questions import CONVERSATIONS, TEXTS, prompts
from labkit.exports.reference import POSITIONS, Reference
from labkit.generation.turns import ends_of_turns
from labkit.methods import LoRA, Method, merge
from labkit.methods.adapter import Adapter, adapters_of
from labkit.methods.exact import SAME, in_float32
from labkit.methods.lora import LoRALinear
from labkit.methods.lora_variants import DoRALinear
from labkit.methods.merging import MergeableLinear
from labkit.models.generation import end_ids
from labkit.models.model import Model
from labkit.process import as_by_default
from labkit.runs.adapters import base_of
from labkit.runs.run import Run, describe


@dataclass
class Subject:
    """A model to export.

    Attributes:
        model: as it is used in this process.
        run: what it was trained by, if that is known.
        positions: at how many the next token is compared in llama.cpp.
    """

    model: Model
    run: Run | None = None
    positions: int = POSITIONS

    @classmethod
    def of(cls, given: object, positions: int = POSITIONS) -> Subject:
        """Return the subject of a run or a model.

        Raises:
            LabkitError: it is neither, or one that cannot be exported.
        """
        if not isinstance(given, (Run, Model)):
            raise LabkitError(f"{shown(given)} is neither a run nor a model.", "Pass what lk.finetune returned.")
        tuned, run = (given.model, given) if isinstance(given, Run) else (given, None)
        subject = cls(tuned, run, positions)
        if isinstance(given, Run):
            given.require_whole()
        model, other = subject.model, "Keep it with run.save, and load it with lk.load_run."
        if model.kind != "causal":
            raise LabkitError(f"{model.name} is an encoder, and exports are for models that write.", other)
        if model.disabled:
            raise LabkitError(f"The adapter of {model.name} is disabled.", "Export after lk.disable_adapter's block.")
        for layer in subject.adapters.values():
            if not isinstance(layer, MergeableLinear):
                raise LabkitError(f"A {type(layer).__name__} cannot be exported; LoRA and IA3 can.", other)
            if layer.original:
                raise LabkitError(f"Adapters of {model.name} are merged in place.", "Call unmerge() on them first.")
        return subject

    @property
    def adapters(self) -> dict[str, Adapter]:
        """The adapters of the model, by path."""
        return adapters_of(self.model)

    @property
    def origin(self) -> dict[str, Any]:
        """What the model started from, as in ``Run.base``; without a run, what is below the adapter."""
        return self.run.base if self.run else describe(self.bare())

    @property
    def method(self) -> Method:
        """The run's method, or the LoRA that the model's layers show.

        Raises:
            LabkitError: a model came without its run, and its adapters don't show how they were made.
        """
        if self.run:
            return self.run.method
        layers = {path: layer for path, layer in self.adapters.items() if type(layer) is LoRALinear}
        kinds = {(layer.rank, layer.scale) for layer in layers.values()}
        if len(kinds) != 1 or len(layers) < len(self.adapters):
            raise LabkitError(f"{self.model.name} doesn't show how it was trained.", "Pass the run: lk.export(run, …).")
        ((rank, scale),) = kinds
        return LoRA(rank=rank, alpha=scale * rank, target_modules=[*layers])

    @property
    def attention(self) -> str:
        """How attention is computed, by transformers' name, in both processes."""
        own = self.model.module.config._attn_implementation
        return own if own in SAME else "eager"

    @cached_property
    def ends(self) -> list[int]:
        """The tokens at which labkit stops: all that end a text, or the assistant's turn."""
        return sorted(end_ids(self.model) | ends_of_turns(self.model.tokenizer))

    def live(self) -> PreTrainedModel:
        """Return the network with its adapter, in float32 on the CPU, 4-bit weights dequantized."""
        return in_float32(self.model)

    def bare(self) -> Model:
        """Return the model without its adapter, over the same weights."""
        return base_of(self.model)

    def base(self) -> PreTrainedModel:
        """Return the network below the adapter, in float32 on the CPU."""
        return in_float32(self.bare())

    @cached_property
    def merged(self) -> PreTrainedModel:
        """The network with its adapter merged as ``lk.merge`` does: in float32, rounded to the type of the weights."""
        return in_float32(merge(self.model, dequantize=True) if self.adapters else self.model)

    @cached_property
    def live_logits(self) -> list[torch.Tensor]:
        """The logits of the prompts with the adapter beside the weights."""
        return self._logits(self.live())

    @cached_property
    def merged_logits(self) -> list[torch.Tensor]:
        """The logits of the prompts with the adapter merged."""
        return self._logits(self.merged)

    @cached_property
    def reference(self) -> Reference:
        """What the model says, for the proofs in llama.cpp."""
        return Reference.of(self.model, self.positions)

    @property
    def exact(self) -> bool:
        """Whether PEFT computes the very same numbers.

        LoRA's update is s·BAx. labkit scales Ax and PEFT scales BAx, which is the same to the last bit where s is a
        power of two. Other adapters are computed in another order too.
        """
        return all(
            isinstance(layer, LoRALinear) and not isinstance(layer, DoRALinear) and math.frexp(layer.scale)[0] == 0.5
            for layer in self.adapters.values()
        )

    @cached_property
    def prompts(self) -> list[list[int]]:
        """Tokens whose logits are compared."""
        return prompts(self.model.tokenizer, self.model.embeddings.num_embeddings)

    def _logits(self, network: PreTrainedModel) -> list[torch.Tensor]:
        """Return the logits of the prompts, computed as the other process does: in float32, by one thread."""
        with as_by_default():
            threads = torch.get_num_threads()
            torch.set_num_threads(plain.THREADS)
            try:
                return plain.logits(network, self.prompts)
            finally:
                torch.set_num_threads(threads)

    @property
    def texts(self) -> tuple[str, ...]:
        """Texts whose tokens are compared."""
        return TEXTS

    @cached_property
    def ids(self) -> list[list[int]]:
        """The tokens of ``texts``."""
        return [self.model.tokenizer(text, verbose=False)["input_ids"] for text in TEXTS]

    @cached_property
    def rendered(self) -> list[str | None]:
        """Conversations as the model's template writes them, closed and up to a reply; None where it refuses."""
        return plain.rendered(self.model.tokenizer, [*CONVERSATIONS])
