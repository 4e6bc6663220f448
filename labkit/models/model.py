"""What a model is to labkit: a network, its tokenizer, and how both are used."""

from __future__ import annotations

import copy
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labkit.errors import LabkitError, require_count
from labkit.models import fingerprint
from labkit.models.context import longest_of
from labkit.models.generation import continue_text
from labkit.quant.bnb import bnb_layers, guard, quantized_tensors
from labkit.quant.layers import Quantization, is_4bit
from labkit.quant.matrix import sides


@dataclass
class Model:
    """A pretrained network with its tokenizer.

    Attributes:
        name: what it was loaded as.
        module: the network, a transformers module, perhaps with adapted layers inside.
        tokenizer: its tokenizer, which pads on the right.
        kind: ``"causal"`` (predicts the next token) or ``"encoder"`` (turns a text into vectors).
        precision: the type that matrix products are computed in.
        head: an encoder's classifier, shape (classes, hidden size); None until it was fine-tuned.
        quantization: how the weights of its linear layers are stored in 4 bits; None where they are not.
        origin: the fingerprint from before quantization.
        old_origin: the same, of the kind in saved runs of the first format.
        labels: the classes of the head, in the order of its rows; () where they are not known.
        untrained_head: the head and the labels from before an adapter; None where there is no adapter.
        disabled: whether the model computes as before its adapter; see ``lk.disable_adapter``.
    """

    name: str
    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: str
    precision: torch.dtype
    head: nn.Linear | None = None
    quantization: Quantization | None = None
    origin: str = ""
    old_origin: str = ""
    labels: tuple[str, ...] = ()
    untrained_head: tuple[nn.Linear | None, tuple[str, ...]] | None = field(default=None, repr=False, compare=False)
    disabled: bool = field(default=False, repr=False, compare=False)
    # with the state that it was computed for
    _fingerprint: tuple[tuple | None, str] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        guard(self.module)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the weights take: parameters, buffers, and the scales of 4-bit weights."""
        tensors = [*self.parameters(), *self.module.buffers(), *quantized_tensors(self.module)]
        return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def embeddings(self) -> nn.Embedding:
        """The table of word vectors, shape (vocabulary, hidden size)."""
        return cast(nn.Embedding, self.module.get_input_embeddings())

    def parameters(self) -> list[nn.Parameter]:
        """Return every parameter once, the head's included."""
        return [*self.module.parameters(), *(self.head.parameters() if self.head else ())]

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that require gradients by name; the head's names begin with ``head.``."""
        named = dict(self.module.named_parameters())
        if self.head is not None:
            named |= {f"head.{name}": p for name, p in self.head.named_parameters()}
        return {name: p for name, p in named.items() if p.requires_grad}

    def autocast(self) -> AbstractContextManager:
        """Compute matrix products in ``precision`` inside the block; norms and losses stay in float32."""
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32)

    @property
    def max_length(self) -> int:
        """Tokens of a text that the network can read at once, beside those that an adapter puts before it."""
        tokens = None if self.disabled else getattr(self.module, "virtual_tokens", None)
        return longest_of(self.module.config) - getattr(tokens, "count", 0)

    def generate(self, prompt: str, max_new_tokens: int = 20) -> str:
        """Continue a prompt with the likeliest token each time, and return what was added.

        What the model's files say of sampling, penalties and the like is left aside. The text ends before a token
        that ends texts to the tokenizer or to the model, or after ``max_new_tokens``. A prompt that leaves no room for
        these loses its beginning, with a ``TruncationWarning``.

        Raises:
            LabkitError: the model is an encoder, there is nothing to start from, or no room for so many tokens.
        """
        if self.kind != "causal":
            raise LabkitError(
                f"{self.name} is an encoder: it reads text but cannot write any.",
                "Use a causal model such as smollm2-135m.",
            )
        return continue_text(self, prompt, require_count("max_new_tokens", max_new_tokens))

    def copy(self, *, share_weights: bool) -> Model:
        """Return a model with modules of its own; its weights are the same memory, or a float32 copy.

        A method that inserts layers into a copy that shares weights leaves this model untouched.

        Raises:
            LabkitError: the weights are in 4 bits and not to be shared, or the adapter is disabled.
        """
        if self.disabled:
            raise LabkitError(
                f"{self.name} cannot be copied while its adapter is disabled: the copy's would stay so.",
                "Copy it before or after the block of lk.disable_adapter.",
            )
        if not share_weights:
            self.require_floats()
            return replace(self, module=copy.deepcopy(self.module).float(), head=copy.deepcopy(self.head))
        # deepcopy looks objects up in `memo` before it copies them: here each weight is found there
        # already, as a new Parameter over the old storage, so that only the modules are copied.
        tensors = [*self.module.parameters(), *self.module.buffers()]
        memo = {
            id(t): nn.Parameter(t.data, requires_grad=t.requires_grad) if type(t) is nn.Parameter else t
            for t in tensors
        }
        for layer in bnb_layers(self.module):  # frozen for good: weight and scales may be the same objects
            memo[id(layer.weight.quant_state)] = layer.weight.quant_state
        made = replace(self, module=copy.deepcopy(self.module, memo), head=copy.deepcopy(self.head))
        if self._fingerprint and self._fingerprint[0] == fingerprint.state_of(self.module):
            made._fingerprint = fingerprint.state_of(made.module), self._fingerprint[1]
        return made

    def require_floats(self) -> None:
        """Raise a ``LabkitError`` where weights are stored in 4 bits."""
        if self.quantization:
            raise LabkitError(
                f"{self.name} is stored in 4 bits ({self.quantization.format}), which cannot be trained.",
                "Use QLoRA or LoRA on it, or full fine-tuning on the model as load_model gives it.",
            )

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that tell this network's weights from any other's.

        It covers each tensor's name, shape and all values, rounded to bfloat16 so that the same weights stored
        in another precision count as the same. A 4-bit model has that of its original. It is computed once,
        and again when weights have changed.
        """
        if self.origin or self.device.type == "meta":
            return self.origin or "no numbers"
        state = fingerprint.state_of(self.module)
        known = self._fingerprint
        if state is None or known is None or known[0] != state:
            known = self._fingerprint = state, fingerprint.fingerprint(self.module)
        return known[1]

    def old_fingerprint(self) -> str:
        """Return the digits that stand for this network in runs and checkpoints saved without a format version."""
        if self.origin or self.device.type == "meta":
            return self.old_origin or "no numbers"
        return fingerprint.fingerprint_of_samples(self.module)

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.parameters() if p.is_floating_point())
        if self.quantization:
            count += sum(math.prod(sides(layer)) for layer in self.module.modules() if is_4bit(layer))
        stored = f", {self.quantization.format}" if self.quantization else ""
        size = f"{count / 1e9:.1f} billion" if count >= 1e9 else f"{count / 1e6:.1f} million"
        return f"Model({self.name!r}, {self.kind}, {size} parameters{stored}, {self.device})"
