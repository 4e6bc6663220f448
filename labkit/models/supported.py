"""Refuse a model that labkit does not support, before its weights are read where possible."""

from __future__ import annotations

import re
from collections.abc import Mapping

from transformers import PretrainedConfig
from transformers.models.auto import modeling_auto as auto

from labkit.errors import LabkitError
from labkit.models.architectures import ARCHITECTURES, of_kind

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
# Masks and tables that old releases of transformers saved with the weights; today they are computed.
COMPUTED = re.compile(r"(attn|attention)\.(masked_)?bias$|rotary_emb\.inv_freq$|position_ids$")
# An encoder's pretraining head predicts masked words; no method here uses it.
PRETRAINING_HEAD = re.compile(r"^(cls|lm_head|head|decoder|vocab_\w+)\.|pooler\.")


def require_supported(config: PretrainedConfig, name: str) -> str:
    """Return a model's kind, ``"causal"`` or ``"encoder"``.

    Args:
        config: of the model to load.
        name: the model's name in error messages.

    Raises:
        LabkitError: labkit does not support such a model, or not in the form that it was saved in.
    """
    what = config.model_type
    if config.is_encoder_decoder:
        raise _unsupported(name, f"{what}, an encoder–decoder: it reads one text and writes another")
    if config.sub_configs:
        parts = ", ".join(sorted(config.sub_configs))
        raise _unsupported(name, f"{what}, which is made of several networks ({parts}) and reads more than text")
    if any(getattr(config, setting, None) for setting in EXPERTS):
        raise _unsupported(
            name,
            f"{what}, a mixture of experts: its experts are not linear layers, so LoRA and 4-bit storage would leave "
            "most of the model out",
        )
    if what not in ARCHITECTURES:
        raise _unsupported(name, what)
    kind = ARCHITECTURES[what].kind
    if kind == "encoder" and getattr(config, "is_decoder", False):
        raise _unsupported(name, f"{what} used as a decoder (is_decoder=true in config.json)")
    tables: list[Mapping[str, object]] = [auto.MODEL_MAPPING_NAMES]
    if kind == "causal":
        tables += [auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES]
    else:
        tables += [auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES]
    known = {table.get(what) for table in tables}
    if other := [made for made in config.architectures or () if made not in known]:
        raise _other_head(name, f"it was saved as {other[0]}", kind)
    if stored := _quantized(config):
        raise LabkitError(
            f"{name} is quantized already ({stored}), and labkit trains on models whose weights are floats.",
            "Load the model that it was made from, and store that in 4 bits with lk.quantize_model or QLoRA.",
        )
    return kind


def require_all_used(unexpected: set[str], kind: str, name: str) -> None:
    """Raise a ``LabkitError`` where a model's files hold weights that loading it left out.

    Args:
        unexpected: the weights that no layer took.
        kind: ``"causal"`` or ``"encoder"``.
        name: the model's name in error messages.
    """
    unused = sorted(key for key in unexpected if not COMPUTED.search(key))
    if kind == "encoder":
        unused = [key for key in unused if not PRETRAINING_HEAD.search(key)]
    if unused:
        raise _other_head(name, f"its files hold {len(unused)} weights that have no place in one ({unused[0]})", kind)


def _quantized(config: PretrainedConfig) -> str:
    """Return how the weights of a checkpoint were quantized, or ""."""
    found = getattr(config, "quantization_config", None) or getattr(config, "compression_config", None)
    if not found:
        return ""
    settings = found if isinstance(found, dict) else found.to_dict()
    bits = next((f", {n} bits" for n in (4, 8) if settings.get(f"load_in_{n}bit") or settings.get("bits") == n), "")
    return f"{settings.get('quant_method', 'by an unnamed method')}{bits}"


def _unsupported(name: str, what: str) -> LabkitError:
    causal, encoders = (", ".join(known.title for known in of_kind(kind).values()) for kind in ("causal", "encoder"))
    return LabkitError(
        f"{name} is {what}. labkit does not support that.",
        f"Supported are {causal}; as encoders {encoders}.",
    )


def _other_head(name: str, what: str, kind: str) -> LabkitError:
    plain = "a language model that predicts the next token" if kind == "causal" else "an encoder without a classifier"
    return LabkitError(
        f"{name} is not {plain}: {what}, and labkit would leave a part of it out.",
        "Load the model that it was made from. labkit trains a classifier of its own on an encoder."
        if kind == "encoder"
        else "Load the language model that it was made from.",
    )
