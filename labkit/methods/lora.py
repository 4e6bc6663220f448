"""LoRA: the weights stay as they are, and each gets a trained update of low rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from labkit.errors import LabkitError, require_count, require_number, set_checked, unknown
from labkit.methods.adapter import LayerMethod
from labkit.methods.adapter_files import require_settings
from labkit.methods.merging import MergeableLinear
from labkit.methods.method import register
from labkit.methods.targets import as_list, find_targets, require_all_linear, stored_as
from labkit.models.model import Model
from labkit.quant.layers import LinearLayer, is_4bit
from labkit.quant.matrix import sides


class LoRALinear(MergeableLinear):
    """y = Wx + s·BAx (Hu et al., 2021, arXiv:2106.09685, equation 3), around a linear layer of any kind.

    W (out, in) is frozen; A (rank, in) starts random and B (out, rank) at zero, so training starts at the
    unchanged layer. Input (…, in), output (…, out).
    """

    def __init__(self, base: LinearLayer, rank: int, scale: float, dropout: float = 0.0):
        super().__init__(base)
        self.rank, self.scale = require_count("rank", rank), require_number("scale", scale, above=0)
        dropout = require_number("dropout", dropout, low=0, below=1)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        device, (inputs, outputs) = base.weight.device, sides(base)
        self.lora_A = nn.Parameter(torch.empty(self.rank, inputs, device=device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, self.rank, device=device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.train(base.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return Wx + s·B(Ax): two thin products, never the matrix BA."""
        if self.original:
            return self.base(x)
        return self.base(x) + self.update(self.dropout(x))

    def update(self, x: torch.Tensor) -> torch.Tensor:
        """Return s·BAx, in the type of x or of autocast."""
        return F.linear(F.linear(x, self.lora_A) * self.scale, self.lora_B)

    def delta(self) -> torch.Tensor:
        """Return the update of the weight, s·BA, shape (out, in), in float32."""
        return self.scale * (self.lora_B.float() @ self.lora_A.float())

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """Return the trained tensors, under their names in PEFT's files."""
        return {"lora_A.weight": self.lora_A, "lora_B.weight": self.lora_B}

    @torch.no_grad()
    def load_adapter_state(self, state: dict[str, torch.Tensor]) -> None:
        """Set the values that ``adapter_state`` returned."""
        self.lora_A.copy_(state["lora_A.weight"])
        self.lora_B.copy_(state["lora_B.weight"])

    def combined(self) -> dict[str, torch.Tensor]:
        """Return W + s·BA."""
        return {"weight": self.frozen.float() + self.delta()}


# Settings of PEFT's that change what a layer computes, that no tensor in a file shows, and that labkit doesn't have.
OTHER = ("use_qalora", "use_bdlora", "alpha_pattern", "layer_replication", "alora_invocation_tokens", "arrow_config")
OTHER += ("kasa_config", "monteclora_config")
VARIANTS: dict[str, type[LoRALinear]] = {"lora": LoRALinear}  # lora_variants.py adds others


@register
@dataclass(frozen=True)
class LoRA(LayerMethod):
    """Low-rank adaptation: ``LoRALinear`` around the chosen layers.

    Attributes:
        learning_rate: about 10 times what suits full fine-tuning.
        rank: rows of A and columns of B.
        alpha: the update's scale is alpha/rank, or alpha/√rank with ``rslora``.
        dropout: share of inputs to A that are dropped in training, 0 up to below 1.
        target_modules: names of the linear layers to adapt; ``"all-linear"`` takes every one but the head.
        rslora: rank-stabilized scale (Kalajdzievski, 2023, arXiv:2312.03732).
        variant: ``"lora"``, ``"dora"`` or ``"pissa"``; see ``labkit.methods.lora_variants``.
    """

    name: ClassVar[str] = "lora"
    learning_rate: float = 1e-3
    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    target_modules: str | Sequence[str] = "all-linear"
    rslora: bool = False
    variant: str = "lora"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(
            self,
            rank=require_count("rank", self.rank, remedy="Try 8."),
            alpha=require_number("alpha", self.alpha, above=0),
            dropout=require_number("dropout", self.dropout, low=0, below=1, remedy="Try 0.05."),
        )
        if self.variant not in VARIANTS:
            raise unknown("variant of LoRA", str(self.variant), VARIANTS)

    @property
    def scale(self) -> float:
        """The factor s before BA."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def find(self, model: Model) -> dict[str, LinearLayer]:
        """Return the layers called ``target_modules``, or raise where one is too small or does not suit the variant."""
        layers = find_targets(model.module, self.target_modules)
        if self.target_modules == "all-linear":
            require_all_linear(model.module, f"{self.name} on all-linear")
        for path, layer in layers.items():
            if self.variant != "lora" and is_4bit(layer):
                raise LabkitError(
                    f"The variant {self.variant!r} needs weights in floats, and {path} is stored in 4 bits.",
                    'Use variant="lora", or the model as load_model gives it.',
                )
            inputs, outputs = sides(layer)
            if self.rank > (limit := min(inputs, outputs)):
                raise LabkitError(
                    f"rank={self.rank} is more than {path} can have: it is {outputs} × {inputs}.",
                    f"Choose a rank up to {limit}, or leave that layer out of target_modules.",
                )
        return layers

    def wrap(self, path: str, layer: LinearLayer, model: Model) -> LoRALinear:
        """Return ``layer`` with its low-rank update."""
        return VARIANTS[self.variant](layer, self.rank, self.scale, self.dropout)

    def load(self, base: Model, folder: Path) -> Model:
        """Return a model over ``base``'s weights with the saved adapter, which must have been made with this scale."""
        tuned = super().load(base, folder)
        require_settings(self.peft_config(base), folder, ("lora_alpha", "use_rslora"), OTHER)
        return tuned

    def peft_config(self, model: Model) -> dict:
        """Return the settings as PEFT's ``LoraConfig`` has them."""
        pissa = self.variant == "pissa"  # its change is a LoRA of twice the rank, and saved as one
        rank = 2 * self.rank if pissa else self.rank
        targets = self.target_modules
        return {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": self.scale * rank if pissa else self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": targets if targets == "all-linear" else as_list(targets),
            "use_rslora": self.rslora and not pissa,
            "use_dora": self.variant == "dora",
            **stored_as(model.module),
        }
