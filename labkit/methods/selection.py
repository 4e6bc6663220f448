"""Several LoRAs around one layer, of which each row of a batch takes one or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from labkit.errors import LabkitError
from labkit.methods.adapter import Adapter
from labkit.methods.factors import Factors
from labkit.methods.lora import LoRALinear
from labkit.methods.targets import replace_layer
from labkit.models.model import Model
from labkit.process import own_random_numbers
from labkit.quant.layers import LinearLayer

NONE = -1  # the number of the base itself


class Selection:
    """Which adapter each row of the batch takes: by default none, inside ``choosing`` the chosen ones.

    Attributes:
        groups: numbers of adapters, each with the rows that take it; None for all rows.
        size: how many rows there are, where the rows differ.
    """

    def __init__(self) -> None:
        self.groups: list[tuple[int, torch.Tensor | None]] = []
        self.size = 0

    @contextmanager
    def choosing(self, numbers: Sequence[int], device: torch.device) -> Iterator[None]:
        """Give each row the adapter of this number, or ``NONE``, inside the block. One number is for all rows."""
        before = self.groups, self.size
        kinds = sorted({*numbers})
        if len(kinds) == 1:
            self.groups = [(kinds[0], None)]
        else:
            rows = torch.tensor(numbers, device=device)
            self.groups = [(kind, (rows == kind).nonzero()[:, 0]) for kind in kinds]
        self.groups, self.size = [group for group in self.groups if group[0] != NONE], len(numbers)
        try:
            yield
        finally:
            self.groups, self.size = before

    def require_rows(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Raise a ``LabkitError`` before a network reads other rows than were chosen for, where these differ."""
        read = inputs[0] if inputs else named.get("input_ids", named.get("inputs_embeds"))
        if read is not None and len(read) != self.size and any(rows is not None for _, rows in self.groups):
            raise LabkitError(
                f"Adapters were chosen for {self.size} rows, and the batch has {len(read)}.",
                "Choose one for each row, or use generate of lk.Specialists, which makes the batches itself.",
            )


class SelectedLinear(Adapter):
    """y = Wx + Σᵢ mᵢ · sᵢ·BᵢAᵢx: LoRA (Hu et al., 2021, arXiv:2106.09685) with a mask mᵢ of the rows that take i.

    W is read once for all rows of the batch, whatever they take, and of the updates only those of its rows are
    computed (as in S-LoRA, Sheng et al., 2023, arXiv:2311.03285). Input (rows, …, in), output (rows, …, out).

    Args:
        base: the layer.
        updates: LoRA's factors for this layer, by the numbers of their adapters.
        selection: which adapter each row takes; all layers of a model have the same.
    """

    def __init__(self, base: LinearLayer, updates: Mapping[int, Factors], selection: Selection):
        super().__init__()
        self.base, self.selection = base, selection
        self.updates = nn.ModuleDict({str(number): each.around(base) for number, each in updates.items()})
        self.train(base.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, with each row's own update."""
        y = self.base(x)
        for number, rows in self.selection.groups:
            if str(number) in self.updates:
                update = cast(LoRALinear, self.updates[str(number)]).update
                y = y + update(x) if rows is None else self._add(y, x, rows, update)
        return y

    def _add(self, y: torch.Tensor, x: torch.Tensor, rows: torch.Tensor, update: Callable) -> torch.Tensor:
        size = self.selection.size
        if len(x) % size:
            raise LabkitError(
                f"Adapters were chosen for {size} rows, and a layer got {len(x)}.", "Choose one for each row."
            )
        # Some networks, such as OPT, have all tokens of all rows in one dimension.
        own = x.unflatten(0, (size, -1))[rows]
        added = update(own.flatten(0, 1))
        added = added.unflatten(0, own.shape[:2]).to(y.dtype)
        return y.unflatten(0, (size, -1)).index_add(0, rows, added).flatten(0, 1)

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """Raise a ``LabkitError``: PEFT's files hold one adapter each."""
        raise LabkitError("Several adapters share this model, and a file holds one.", "Save each run by itself.")

    def load_adapter_state(self, state: dict[str, torch.Tensor]) -> None:
        """Raise a ``LabkitError``: PEFT's files hold one adapter each."""
        self.adapter_state()


def with_selection(base: Model, adapters: Sequence[Mapping[str, Factors]]) -> tuple[Model, Selection]:
    """Return a model over the memory of ``base`` that holds all adapters, and what chooses among them by number."""
    model, selection = base.copy(share_weights=True), Selection()
    model.module.requires_grad_(False)
    with own_random_numbers(base.device):  # new layers draw numbers, which are not used
        for path, layer in list(model.module.named_modules()):
            updates = {number: factors[path] for number, factors in enumerate(adapters) if path in factors}
            if updates:
                replace_layer(model.module, path, SelectedLinear(cast(LinearLayer, layer), updates, selection))
    # A layer can't tell: in OPT's, whose inputs have one dimension for rows and tokens, 4 rows look like 2 longer ones.
    model.module.register_forward_pre_hook(selection.require_rows, with_kwargs=True)
    model.module.requires_grad_(False)
    return model, selection
