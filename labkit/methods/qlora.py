"""QLoRA: the frozen weights are stored in 4 bits, and LoRA trains beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from labkit.errors import LabkitError, set_checked
from labkit.methods.adapter import require_no_adapter
from labkit.methods.lora import LoRA
from labkit.methods.method import register
from labkit.methods.targets import find_targets, replace_layer, require_all_linear
from labkit.models.model import Model
from labkit.quant.layers import Quantization
from labkit.quant.matrix import sides


def quantize_model(model: Model, quantization: Quantization | None = None, *, inplace: bool = False) -> Model:
    """Return ``model`` with the weights of all linear layers but the head in 4 bits; they are frozen.

    Args:
        model: a model with float weights. It stays as it was, and both share what is not quantized.
        quantization: format, block size and backend; NF4 with double quantization if None.
        inplace: change ``model`` itself, so that its 16- or 32-bit weights can be freed.

    Raises:
        LabkitError: the model is in 4 bits already, a weight is not finite, or most of the model is in no linear layer.
    """
    if model.quantization:
        raise LabkitError(
            f"{model.name} is stored in 4 bits already: {model.quantization}.",
            "Quantize the model as load_model gives it; quantizing twice would add a second error.",
        )
    require_no_adapter(model)
    quantization = quantization or Quantization()
    if model.device.type == "meta" and quantization.backend == "bitsandbytes":
        raise LabkitError(
            f"{model.name} is a blueprint, and bitsandbytes quantizes real numbers only.",
            'Pass lk.Quantization(backend="labkit"), whose weights take the same memory.',
        )
    require_all_linear(model.module, "4-bit storage")
    _try_out(model, quantization)
    origin, old_origin = model.fingerprint(), model.old_fingerprint()
    made = model if inplace else model.copy(share_weights=True)
    made.module.requires_grad_(False)
    for path, layer in find_targets(made.module, "all-linear").items():
        replace_layer(made.module, path, quantization.layer(layer, model.precision))
    made.quantization, made.origin, made.old_origin = quantization, origin, old_origin
    return made


def _try_out(model: Model, quantization: Quantization) -> None:
    """Raise a ``LabkitError`` where a layer cannot be quantized, before any is replaced."""
    tried = set()
    for path, layer in find_targets(model.module, "all-linear").items():
        if not layer.weight.is_meta and not torch.isfinite(layer.weight).all():
            raise LabkitError(
                f"The weight of {path} is not finite everywhere.",
                "Check where the weights come from: training may have diverged.",
            )
        inputs, _ = sides(layer)
        broken = quantization.backend == "bitsandbytes" and inputs % quantization.block_size  # see bnb_linear
        if broken and inputs not in tried:
            tried.add(inputs)
            quantization.layer(layer, model.precision)


@register
@dataclass(frozen=True)
class QLoRA(LoRA):
    """LoRA over 4-bit weights (Dettmers et al., 2023, arXiv:2305.14314).

    Every linear layer but the head is stored in 4 bits; ``target_modules`` get an adapter, all by default.
    A model that is in 4 bits already is used as it is.

    Attributes:
        format, block_size, double, backend: see ``Quantization``.
    """

    name: ClassVar[str] = "qlora"
    format: str = "nf4"
    block_size: int = 64
    double: bool = True
    backend: str = "bitsandbytes"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant != "lora":
            raise LabkitError(
                f"The variant {self.variant!r} needs the weights in floats, and QLoRA has them in 4 bits.",
                'Use variant="lora", or LoRA instead of QLoRA.',
            )
        set_checked(self, block_size=self.quantization.block_size)  # which checks the other settings as well

    @property
    def quantization(self) -> Quantization:
        """How the frozen weights are stored."""
        return Quantization(self.format, self.block_size, self.double, self.backend)

    def apply(self, model: Model, *, inplace: bool = False) -> Model:
        """Return a 4-bit copy of ``model`` with adapters; ``inplace`` frees the larger weights."""
        return super().apply(self._in_4_bits(model, inplace), inplace=inplace)

    def load(self, base: Model, folder: Path) -> Model:
        """Return a 4-bit copy of ``base`` with the saved adapter."""
        return super().load(self._in_4_bits(base, False), folder)

    def _in_4_bits(self, model: Model, inplace: bool) -> Model:
        if model.quantization and model.quantization != self.quantization:
            raise LabkitError(
                f"{model.name} is stored as {model.quantization}, and this method asks for {self.quantization}.",
                "Pass the model as load_model gives it, or a method with the model's own settings.",
            )
        require_no_adapter(model)
        self.find(model)  # finds a wrong name or rank before anything is changed
        return model if model.quantization else quantize_model(model, self.quantization, inplace=inplace)
