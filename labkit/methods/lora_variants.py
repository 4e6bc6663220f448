"""Two variants of LoRA, each a few lines on top of ``LoRALinear``."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from labkit.errors import LabkitError
from labkit.methods.lora import VARIANTS, LoRALinear
from labkit.quant.layers import LinearLayer
from labkit.quant.matrix import turned


class DoRALinear(LoRALinear):
    """Direction and length of each row of the weight are trained separately (Liu et al., 2024, arXiv:2402.09353).

    y = m/‖W + sBA‖ · (W + sBA)x, with one trained length m for each of the rows. As in the paper's
    section 4.3, the norm is taken as a constant in the backward pass, which saves memory.
    """

    def __init__(self, base: LinearLayer, rank: int, scale: float, dropout: float = 0.0):
        super().__init__(base, rank, scale, dropout)
        self.magnitude = nn.Parameter(self.frozen.detach().float().norm(dim=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rescaled product; the bias is not rescaled."""
        if self.original:
            return self.base(x)
        product = F.linear(x, turned(self.base, self.base.weight)) + self.update(self.dropout(x))
        result = product * self._factor().to(product.dtype)
        return result if self.base.bias is None else result + self.base.bias

    def delta(self) -> torch.Tensor:
        """Return the trained layer's weight minus W, shape (out, in), in float32."""
        weight = self.frozen.float()
        return self._factor().detach()[:, None] * (weight + super().delta()) - weight

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """Return A, B and the lengths of the rows."""
        return super().adapter_state() | {"lora_magnitude_vector": self.magnitude}

    @torch.no_grad()
    def load_adapter_state(self, state: dict[str, torch.Tensor]) -> None:
        """Set the values that ``adapter_state`` returned."""
        super().load_adapter_state(state)
        self.magnitude.copy_(state["lora_magnitude_vector"])

    def _factor(self) -> torch.Tensor:
        with torch.no_grad():
            norm = (self.frozen.float() + super().delta()).norm(dim=1)
        return self.magnitude / norm


class PiSSALinear(LoRALinear):
    """LoRA that begins at the weight's own largest singular vectors (Meng et al., 2024, arXiv:2404.02948).

    With W = USVᵀ, sBA starts as the rank-r part U_r S_r V_rᵀ, and the frozen rest is W − sB₀A₀. That rest
    is never stored: the first factors are kept instead, and y = Wx + s(BA − B₀A₀)x, so that the base
    weights can still be shared. The trained change is a LoRA of rank 2r, and is saved as one.
    """

    first_A: torch.Tensor
    first_B: torch.Tensor

    def __init__(self, base: LinearLayer, rank: int, scale: float, dropout: float = 0.0):
        super().__init__(base, rank, scale, dropout)
        self.register_buffer("first_A", self.lora_A.detach().clone())
        self.register_buffer("first_B", self.lora_B.detach().clone())

    @torch.no_grad()
    def start(self) -> None:
        """Set the factors to the weight's largest singular vectors. Until then, the change is zero."""
        weight = self.frozen.float()
        if not weight.is_meta and not weight.isfinite().all():
            raise LabkitError(
                f"A weight of shape {tuple(weight.shape)} is not finite everywhere, so it has no singular vectors.",
                "Check where the weights come from: training may have diverged.",
            )
        U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
        root = (S[: self.rank] / self.scale).sqrt()
        self.lora_A.copy_(root[:, None] * Vh[: self.rank])
        self.lora_B.copy_(U[:, : self.rank] * root)
        self.first_A.copy_(self.lora_A)
        self.first_B.copy_(self.lora_B)

    def update(self, x: torch.Tensor) -> torch.Tensor:
        """Return s(BA − B₀A₀)x, as one product of rank 2r."""
        A, B = self.adapter_state().values()
        return F.linear(F.linear(x, A) * self.scale, B)

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """Return the change as the factors of one LoRA of rank 2r: A above A₀, B beside −B₀."""
        A, B = torch.cat([self.lora_A, self.first_A]), torch.cat([self.lora_B, -self.first_B], dim=1)
        return {"lora_A.weight": A, "lora_B.weight": B}

    @torch.no_grad()
    def load_adapter_state(self, state: dict[str, torch.Tensor]) -> None:
        """Set the values that ``adapter_state`` returned."""
        A, B = state["lora_A.weight"], state["lora_B.weight"]
        super().load_adapter_state({"lora_A.weight": A[: self.rank], "lora_B.weight": B[:, : self.rank]})
        self.first_A.copy_(A[self.rank :])
        self.first_B.copy_(-B[:, self.rank :])

    def delta(self) -> torch.Tensor:
        """Return s(BA − B₀A₀), shape (out, in), in float32."""
        return super().delta() - self.scale * (self.first_B @ self.first_A)


VARIANTS |= {"dora": DoRALinear, "pissa": PiSSALinear}
