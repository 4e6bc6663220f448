"""IA3: one trained factor for each key, value and inner number of the MLP, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from labkit.methods.adapter import LayerMethod
from labkit.methods.merging import MergeableLinear
from labkit.methods.method import register
from labkit.methods.targets import in_blocks, matching, stored_as
from labkit.models.architectures import block_of
from labkit.models.model import Model
from labkit.quant.layers import LinearLayer
from labkit.quant.matrix import sides


class IA3Linear(MergeableLinear):
    """y = l ⊙ (Wx + b), or y = W(l ⊙ x) + b with ``of_input`` (Liu et al., 2022, arXiv:2205.05638, section 3.3).

    l starts at ones, so training starts at the unchanged layer. Input (…, in), output (…, out).
    """

    def __init__(self, base: LinearLayer, of_input: bool):
        super().__init__(base)
        self.of_input = of_input
        inputs, outputs = sides(base)
        self.ia3_l = nn.Parameter(torch.ones(inputs if of_input else outputs, device=base.weight.device))
        self.train(base.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output with the factors, applied in float32: bfloat16 has no number between 1 and 1.0078."""
        if self.original:
            return self.base(x)
        if self.of_input:
            return self.base((x * self.ia3_l).to(x.dtype))
        y = self.base(x)
        return (y * self.ia3_l).to(y.dtype)

    def combined(self) -> dict[str, torch.Tensor]:
        """Return the scaled weight, and the scaled bias where there is one and the output is scaled."""
        if self.of_input:
            return {"weight": self.frozen.float() * self.ia3_l}
        combined = {"weight": self.frozen.float() * self.ia3_l[:, None]}
        if self.base.bias is not None:
            combined["bias"] = self.original.get("bias", self.base.bias).float() * self.ia3_l
        return combined

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """Return the factors in the shape that they have in PEFT's files."""
        return {"ia3_l": self.ia3_l.view(1, -1) if self.of_input else self.ia3_l.view(-1, 1)}

    @torch.no_grad()
    def load_adapter_state(self, state: dict[str, torch.Tensor]) -> None:
        """Set the values that ``adapter_state`` returned."""
        self.ia3_l.copy_(state["ia3_l"].flatten())


@register
@dataclass(frozen=True)
class IA3(LayerMethod):
    """Infused adapter by inhibiting and amplifying inner activations: ``IA3Linear`` around three layers of a block.

    Keys and values are scaled as they come out; the MLP's inner numbers as they go into its last matrix. Where
    queries, keys and values come out of one matrix, all three are scaled.
    """

    name: ClassVar[str] = "ia3"
    learning_rate: float = 3e-2

    def find(self, model: Model) -> dict[str, nn.Module]:
        """Return the layers whose output or input is scaled."""
        return matching(model.module, in_blocks(_names(model)))

    def wrap(self, path: str, layer: LinearLayer, model: Model) -> IA3Linear:
        """Return ``layer`` with its factors."""
        return IA3Linear(layer, of_input=path.endswith("." + _names(model)[-1]))

    def peft_config(self, model: Model) -> dict:
        """Return the settings as PEFT's ``IA3Config`` has them."""
        names = _names(model)
        places = {"target_modules": in_blocks(names), "feedforward_modules": in_blocks(names[-1:])}
        return {"peft_type": "IA3", **places, **stored_as(model.module)}


def _names(model: Model) -> tuple[str, ...]:
    """Return the names of the scaled layers; the last is the one whose input is scaled."""
    block = block_of(
        model.module.config.model_type, "Add it to labkit.models.architectures.ARCHITECTURES, or use LoRA."
    )
    return (*dict.fromkeys((block.k, block.v)), block.down)
