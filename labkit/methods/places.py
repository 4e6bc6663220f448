"""Where methods intervene in a transformer's blocks, by the names that each architecture uses."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from labkit.errors import LabkitError


@dataclass(frozen=True)
class Block:
    """The names of a block's parts.

    Attributes:
        attention, mlp: the linear layers that end the attention and the MLP, before the residual stream is added.
        keys_values: the linear layers that make keys and values, or all three where they are one.
        feed_forward: the module whose last input is the MLP's input; "" where there is none.
    """

    attention: str
    mlp: str
    keys_values: tuple[str, ...]
    feed_forward: str


_LLAMA = Block("self_attn.o_proj", "mlp.down_proj", ("self_attn.k_proj", "self_attn.v_proj"), "mlp")
_BERT = Block("attention.output.dense", "output.dense", ("attention.self.key", "attention.self.value"), "output")
BLOCKS = {
    "bert": _BERT,
    "distilbert": Block("attention.out_lin", "ffn.lin2", ("attention.k_lin", "attention.v_lin"), "ffn"),
    "falcon": Block("self_attention.dense", "mlp.dense_4h_to_h", ("self_attention.query_key_value",), "mlp"),
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "gpt2": Block("attn.c_proj", "mlp.c_proj", ("attn.c_attn",), "mlp"),
    "gpt_neox": Block("attention.dense", "mlp.dense_4h_to_h", ("attention.query_key_value",), "mlp"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "modernbert": Block("attn.Wo", "mlp.Wo", ("attn.Wqkv",), "mlp"),
    "opt": Block("self_attn.out_proj", "fc2", ("self_attn.k_proj", "self_attn.v_proj"), ""),
    "phi3": Block("self_attn.o_proj", "mlp.down_proj", ("self_attn.qkv_proj",), "mlp"),
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "roberta": _BERT,
}


def block_of(architecture: str, remedy: str = "") -> Block:
    """Return the names of an architecture's parts.

    Args:
        architecture: as the model's configuration names it.
        remedy: what the error tells the user to do.

    Raises:
        LabkitError: they are not known.
    """
    if architecture not in BLOCKS:
        raise LabkitError(
            f"labkit does not know where a block of {architecture!r} takes an adapter. "
            f"Known architectures: {', '.join(BLOCKS)}.",
            remedy or 'Name the layers yourself: target_modules=("…",), as print(model.module) shows them.',
        )
    return BLOCKS[architecture]


def in_blocks(names: Sequence[str]) -> str:
    """Return a pattern for the full paths of parts of any block: a block's number, then one of the names."""
    return rf".*\.\d+\.({_any(names)})"


def called(names: Sequence[str]) -> str:
    """Return a pattern for the full paths that are one of the names or end with one."""
    return rf"(.*\.)?({_any(names)})"


def matching(module: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """Return the modules whose whole path fits the pattern, as PEFT understands a string for target_modules."""
    return {path: inner for path, inner in module.named_modules() if re.fullmatch(pattern, path)}


def require_names(module: nn.Module, names: Sequence[str]) -> None:
    """Raise a ``LabkitError`` where there are no names, or one that no part of ``module`` has."""
    known = sorted({path.rsplit(".", 1)[-1] for path, _ in module.named_modules() if path})
    if not names:
        raise LabkitError("target_modules is empty: nothing would be trained.", f"Choose among {', '.join(known)}.")
    for name in names:
        if not matching(module, called([name])):
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            raise LabkitError(
                f"No part of this model is called {name!r}" + (f"; near to it: {', '.join(near)}." if near else "."),
                "Name layers as print(model.module) shows them.",
            )


def _any(names: Sequence[str]) -> str:
    return "|".join(re.escape(name) for name in names)
