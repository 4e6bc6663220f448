"""Prefix tuning: trained keys and values before those of the text, in every layer."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from labkit.errors import LabkitError
from labkit.methods.method import register
from labkit.methods.virtual_tokens import VirtualTokenMethod, VirtualTokens
from labkit.models.architectures import ARCHITECTURES, key_value_heads, of_kind
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model


class Prefix(VirtualTokens):
    """Keys and values of virtual tokens (Li and Liang, 2021, arXiv:2101.00190, section 4).

    The model gets them as the cache that generation keeps, as if it had read the tokens before.
    One trained table, shape (virtual tokens, 2 × layers, heads, head size): keys and values in turn.
    """

    def __init__(self, count: int, context: int, config: PretrainedConfig, device: torch.device):
        super().__init__(count, context)
        known = ARCHITECTURES.get(config.model_type)
        self.bidirectional = known is not None and known.kind == "encoder"
        heads, size = key_value_heads(config)
        self.states = nn.Parameter(torch.empty(count, 2 * config.num_hidden_layers, heads, size, device=device))
        nn.init.normal_(self.states)

    def begin(self, module: PreTrainedModel, inputs: dict) -> None:
        """Fill the cache with the prefix."""
        if module.training and _checkpoints(module):
            raise LabkitError(
                "Prefix tuning and gradient checkpointing exclude each other: checkpointed layers do without a cache.",
                "Set gradient_checkpointing=False.",
            )
        ids = inputs["input_ids"]
        cache = inputs.get("past_key_values")
        if cache is None:
            cache = inputs["past_key_values"] = DynamicCache()
        device = ids.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.states.dtype
        table = self.states.to(dtype).permute(1, 2, 0, 3)  # (2 × layers, heads, tokens, head size)
        for layer in range(len(table) // 2):
            keys, values = (table[2 * layer + i].expand(len(ids), -1, -1, -1) for i in (0, 1))
            cache.update(keys, values, layer)
        if self.bidirectional and inputs.get("attention_mask") is not None:
            # An encoder would make a mask as wide as the text. It takes one with all four dimensions as it is.
            mask = inputs["attention_mask"].bool()
            inputs["attention_mask"] = mask[:, None, None, :].expand(-1, 1, ids.shape[1], -1)

    def after(self, module: PreTrainedModel, args: tuple, inputs: dict, output: ModelOutput) -> ModelOutput | tuple:
        """Take the cache out of the output where none was asked for: generation would hand it to the next pass."""
        if inputs.get("use_cache") is False and not self.disabled:
            output["past_key_values"] = None
        return super().after(module, args, inputs, output)

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """Return the table, one row for each token."""
        return {"prompt_embeddings": self.states.flatten(1)}

    @torch.no_grad()
    def load_adapter_state(self, state: dict[str, torch.Tensor]) -> None:
        """Set the values that ``adapter_state`` returned."""
        self.states.copy_(state["prompt_embeddings"].view_as(self.states))


@register
@dataclass(frozen=True)
class PrefixTuning(VirtualTokenMethod):
    """Train keys and values of virtual tokens, in every layer.

    ``init="random"`` draws from the normal distribution, as PEFT does; keys of such length draw all attention.
    """

    name: ClassVar[str] = "prefix"

    @torch.no_grad()
    def make(self, model: Model, context: int) -> Prefix:
        """Return a prefix; with words, it is what the model has in its cache after reading them."""
        config = model.module.config
        known = ARCHITECTURES.get(config.model_type)
        if model.kind == "encoder" and not (known and known.cached):
            raise _takes_none(config)
        if "past_key_values" not in inspect.signature(model.module.forward).parameters:
            raise _takes_none(config)  # a state-space model such as Mamba has no keys
        prefix = Prefix(self.virtual_tokens, context, config, model.device)
        ids = self.words(model)
        if ids is not None:
            cache = DynamicCache()
            with inference(model):
                model.module(input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache, use_cache=False)
            states = [getattr(layer, side)[0] for layer in cache.layers for side in ("keys", "values")]
            expected = prefix.states.permute(1, 2, 0, 3).shape
            if len(states) != len(prefix.states[0]) or any(state.shape != expected[1:] for state in states):
                raise LabkitError(
                    f"The layers of {config.model_type!r} have keys and values of several shapes, and a prefix has "
                    "only one.",
                    "Use prompt tuning, or another method.",
                )
            prefix.states.copy_(torch.stack(states).permute(2, 0, 1, 3))
        return prefix

    def peft_config(self, model: Model) -> dict:
        """Return the settings as PEFT's ``PrefixTuningConfig`` has them."""
        heads, size = key_value_heads(model.module.config)
        kind = {"peft_type": "PREFIX_TUNING", "num_attention_heads": heads, "token_dim": heads * size}
        return super().peft_config(model) | kind


def _takes_none(config: PretrainedConfig) -> LabkitError:
    encoders = ", ".join(name for name, known in of_kind("encoder").items() if known.cached)
    return LabkitError(
        f"The layers of {config.model_type!r} take no keys and values from outside.",
        f"Use a causal model, or an encoder of the kinds {encoders}; or prompt tuning.",
    )


def _checkpoints(module: nn.Module) -> bool:
    kind = "activation" if hasattr(module, "is_activation_checkpointing") else "gradient"  # renamed in transformers 5.x
    return getattr(module, f"is_{kind}_checkpointing", False)
