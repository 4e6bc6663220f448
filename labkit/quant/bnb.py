"""4-bit layers of bitsandbytes: make them, find them, and guard their gradients on some processors."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import nn

from labkit.errors import LabkitError
from labkit.extras import unusable
from labkit.quant.blocks import check_block_size, check_quantizable
from labkit.quant.blockwise import quantize
from labkit.quant.linear import in_compute_type

if TYPE_CHECKING:
    from bitsandbytes.nn import Linear4bit, Params4bit

    class BnbLinear(Linear4bit):
        """A 4-bit layer of bitsandbytes, for type checkers: it inherits the type of its weight from ``nn.Linear``."""

        weight: Params4bit


class LostGradientWarning(UserWarning):
    """4-bit layers would have lost gradients without an error; they were fixed."""


def load_bitsandbytes() -> ModuleType:
    """Import bitsandbytes, which not every system has.

    Raises:
        LabkitError: it is missing or cannot be loaded.
    """
    try:
        return importlib.import_module("bitsandbytes")
    except (ImportError, OSError, RuntimeError) as problem:
        raise unusable("bitsandbytes", problem, 'use backend="labkit", which needs torch alone') from problem


def bnb_linear(layer: nn.Linear, format: str, block_size: int, double: bool, dtype: torch.dtype) -> BnbLinear:
    """Return a guarded ``Linear4bit`` of bitsandbytes with the weight of ``layer``, frozen.

    Args:
        layer: where the weight comes from.
        format, block_size, double: as in ``labkit.quant.blockwise.quantize``.
        dtype: the type that its products are computed in.

    Raises:
        LabkitError: bitsandbytes is missing, has no such format, or would compute wrong products.
    """
    bnb = load_bitsandbytes()
    if format not in ("nf4", "fp4"):
        raise LabkitError(f"bitsandbytes has no format {format!r}.", 'Use "nf4" or "fp4", or backend="labkit".')
    check_block_size(block_size)
    weight = check_quantizable(layer.weight.detach())
    weight = weight.float() if weight.dtype == torch.float64 else weight
    codes, state = bnb.functional.quantize_4bit(
        weight, blocksize=block_size, compress_statistics=double, quant_type=format
    )
    # Some of its CPU kernels restart the blocks with every row, and give wrong weights if the length
    # of a row is not a multiple of the block size (seen in 0.50). We check where that can happen.
    if weight.device.type == "cpu" and layer.in_features % block_size:
        expected = quantize(weight, format, block_size, double).dequantize()
        if not torch.equal(bnb.functional.dequantize_4bit(codes, state), expected):
            raise LabkitError(
                f"bitsandbytes dequantizes a weight with rows of {layer.in_features} wrongly on this processor when "
                f"the block size is {block_size}.",
                'Choose a block size that divides the rows, or backend="labkit".',
            )
    made = bnb.nn.Linear4bit(
        layer.in_features, layer.out_features, layer.bias is not None, compute_dtype=dtype, device="meta"
    )
    made.weight = bnb.nn.Params4bit(
        codes,
        quant_state=state,
        blocksize=block_size,
        compress_statistics=double,
        quant_type=format,
        bnb_quantized=True,
        module=made,
    )
    made.quant_state = state
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)
    made.support_avx512bf16_for_cpu = False
    made.register_forward_pre_hook(_cast_input)
    return made


def _cast_input(layer: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """Cast as autocast would: the output has the type of the input, and 32 bits would take twice the memory."""
    return (in_compute_type(inputs[0]),)


def is_bnb(layer: nn.Module) -> TypeGuard[BnbLinear]:
    """Return whether a layer is a 4-bit layer of bitsandbytes, without importing it."""
    kinds = type(layer).__mro__
    return any(kind.__name__ == "Linear4bit" and kind.__module__.startswith("bitsandbytes") for kind in kinds)


def bnb_layers(module: nn.Module) -> list[BnbLinear]:
    """Return the bitsandbytes 4-bit layers of a model."""
    return [layer for layer in module.modules() if is_bnb(layer)]


def guard(module: nn.Module) -> None:
    """Make sure that gradients pass through the 4-bit layers of bitsandbytes.

    On a CPU with AVX512-BF16, the first forward pass in evaluation mode without gradients repacks the
    weight in place for a kernel that has no backward pass. From then on the layer passes no gradient to
    its input, in training mode too. No error is raised; the only sign is torch's warning that gemv_4bit
    has no autograd kernel.

    Warns:
        LostGradientWarning: a layer was not guarded yet. It is now.

    Raises:
        LabkitError: a layer was repacked already.
    """
    layers = bnb_layers(module)
    if any(getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers):
        raise LabkitError(
            "This model's 4-bit weights were repacked for inference by bitsandbytes when it was evaluated: its layers "
            "no longer pass gradients on, and training would go wrong without an error.",
            "Load the model again, and call labkit.quant.bnb.guard(module) or train it before the first evaluation.",
        )
    unguarded = [layer for layer in layers if getattr(layer, "support_avx512bf16_for_cpu", False)]
    for layer in unguarded:
        layer.support_avx512bf16_for_cpu = False
    if unguarded:
        warnings.warn(
            f"4-bit layers of bitsandbytes ({len(unguarded)} here) would have stopped passing gradients on after the "
            "first evaluation on this processor. labkit has switched off the fast path that does it "
            "(support_avx512bf16_for_cpu=False on each layer).",
            LostGradientWarning,
            stacklevel=2,
        )


def quantized_tensors(module: nn.Module) -> list[torch.Tensor]:
    """Return what bitsandbytes stores besides parameters and buffers: the scales of 4-bit weights."""
    found: list[torch.Tensor] = []
    for layer in bnb_layers(module):
        state = layer.weight.quant_state
        if state is None:
            continue  # not quantized yet
        inner = getattr(state, "state2", None)
        found += [state.absmax, state.code] + ([state.offset, inner.absmax, inner.code] if inner else [])
    return found
