"""Prompt tuning: trained word vectors before those of the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from labkit.methods.method import register
from labkit.methods.virtual_tokens import VirtualTokenMethod, VirtualTokens
from labkit.models.model import Model


class Prompt(VirtualTokens):
    """Vectors of virtual tokens, shape (virtual tokens, hidden size) (Lester et al., 2021, arXiv:2104.08691)."""

    def __init__(self, count: int, context: int, width: int, device: torch.device):
        super().__init__(count, context)
        self.vectors = nn.Parameter(torch.empty(count, width, device=device))
        nn.init.normal_(self.vectors)

    def begin(self, module: PreTrainedModel, inputs: dict) -> None:
        """Replace the text's ids with vectors, those of the virtual tokens first."""
        ids = inputs.pop("input_ids")
        text = module.get_input_embeddings()(ids)
        inputs["inputs_embeds"] = torch.cat([self.vectors.expand(len(ids), -1, -1).to(text.dtype), text], dim=1)
        if (positions := inputs.get("position_ids")) is not None:
            own = torch.arange(self.count, device=ids.device).expand(len(positions), -1)
            inputs["position_ids"] = torch.cat([own, positions], dim=1)
        if (types := inputs.get("token_type_ids")) is not None:
            inputs["token_type_ids"] = F.pad(types, (self.count, 0))
        if (labels := inputs.get("labels")) is not None:
            inputs["labels"] = F.pad(labels, (self.count, 0), value=-100)  # which cross_entropy ignores

    def after(self, module: PreTrainedModel, args: tuple, inputs: dict, output: ModelOutput) -> ModelOutput | tuple:
        """Leave out what the network said at the virtual tokens."""
        if "inputs_embeds" in inputs and not self.disabled:
            whole = inputs["inputs_embeds"].shape[1]
            for name in ("last_hidden_state", "logits"):
                value = output.get(name)
                if value is not None and value.shape[1] == whole:  # logits_to_keep may have left them out already
                    output[name] = value[:, self.count :]
            if output.get("hidden_states") is not None:
                output["hidden_states"] = tuple(value[:, self.count :] for value in output["hidden_states"])
        return super().after(module, args, inputs, output)

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """Return the vectors."""
        return {"prompt_embeddings": self.vectors}

    @torch.no_grad()
    def load_adapter_state(self, state: dict[str, torch.Tensor]) -> None:
        """Set the values that ``adapter_state`` returned."""
        self.vectors.copy_(state["prompt_embeddings"])


@register
@dataclass(frozen=True)
class PromptTuning(VirtualTokenMethod):
    """Train the vectors of virtual tokens, which the first layer reads before the text's."""

    name: ClassVar[str] = "prompt"

    @torch.no_grad()
    def make(self, model: Model, context: int) -> Prompt:
        """Return a prompt; with words, it is their vectors."""
        prompt = Prompt(self.virtual_tokens, context, model.embeddings.embedding_dim, model.device)
        ids = self.words(model)
        if ids is not None:
            prompt.vectors.copy_(model.embeddings(ids)[0])
        return prompt

    def peft_config(self, model: Model) -> dict:
        """Return the settings as PEFT's ``PromptTuningConfig`` has them."""
        return super().peft_config(model) | {
            "peft_type": "PROMPT_TUNING",
            "token_dim": model.embeddings.embedding_dim,
        }
