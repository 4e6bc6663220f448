"""The architectures that labkit knows: one entry each, with all that differs between them.

A new architecture is a new entry here and its sizes in tests/tiny.py; ``python tests/table.py`` then shows which
methods work on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from labkit.errors import LabkitError


@dataclass(frozen=True)
class Block:
    """The paths of a block's parts, from the block on.

    Attributes:
        q, k, v: the linear layers that make queries, keys and values; one path where one layer makes them all.
        o: the linear layer that ends the attention, before the residual stream is added.
        up, gate: the linear layers that begin the MLP; gate is "" where there is none.
        down: the linear layer that ends the MLP.
        mlp: the module whose last input is the MLP's input; "" where there is none.
    """

    q: str
    k: str
    v: str
    o: str
    up: str
    down: str
    gate: str = ""
    mlp: str = "mlp"


@dataclass(frozen=True)
class Architecture:
    """What labkit knows of an architecture.

    Attributes:
        title: its name in a text.
        kind: ``"causal"`` (predicts the next token) or ``"encoder"`` (turns a text into vectors).
        block: the parts of its blocks.
        planned: whether a step's memory can be predicted for it, by extrapolating from two and three blocks; False if
            every third or sixth block has another kind of attention.
        cached: whether its layers take keys and values from a cache, as prefix tuning needs.
        packed: whether several texts may share a row: whether positions that start again separate them.
        padding_first: whether positions start after the padding token's id, as in RoBERTa.
    """

    title: str
    kind: str
    block: Block
    planned: bool = True
    cached: bool = True
    packed: bool = True
    padding_first: bool = False


def _fused(qkv: str, o: str, up: str, down: str, gate: str = "") -> Block:
    return Block(q=qkv, k=qkv, v=qkv, o=o, up=up, down=down, gate=gate)


_LLAMA = Block(
    q="self_attn.q_proj",
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    o="self_attn.o_proj",
    gate="mlp.gate_proj",
    up="mlp.up_proj",
    down="mlp.down_proj",
)
_OPT = replace(_LLAMA, o="self_attn.out_proj", gate="", up="fc1", down="fc2", mlp="")
_BERT = Block(
    q="attention.self.query",
    k="attention.self.key",
    v="attention.self.value",
    o="attention.output.dense",
    up="intermediate.dense",
    down="output.dense",
    mlp="output",
)
_DISTILBERT = Block(
    q="attention.q_lin",
    k="attention.k_lin",
    v="attention.v_lin",
    o="attention.out_lin",
    up="ffn.lin1",
    down="ffn.lin2",
    mlp="ffn",
)
_FALCON = _fused("self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
_GPT2 = _fused("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
_MODERNBERT = _fused("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo", gate="mlp.Wi")
_NEOX = _fused("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
_PHI3 = _fused("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj", gate="mlp.gate_up_proj")

# By ``model_type``, the name that the configuration has for it.
ARCHITECTURES: dict[str, Architecture] = {
    "falcon": Architecture("Falcon", "causal", _FALCON, packed=False),
    "gemma2": Architecture("Gemma 2", "causal", _LLAMA),
    "gemma3_text": Architecture("Gemma 3 (text)", "causal", _LLAMA, planned=False),
    "gpt2": Architecture("GPT-2", "causal", _GPT2),
    "gpt_neox": Architecture("GPT-NeoX", "causal", _NEOX),
    "llama": Architecture("Llama", "causal", _LLAMA),
    "mistral": Architecture("Mistral", "causal", _LLAMA),
    "opt": Architecture("OPT", "causal", _OPT, packed=False),
    "phi3": Architecture("Phi-3", "causal", _PHI3),
    "qwen2": Architecture("Qwen2", "causal", _LLAMA),
    "qwen3": Architecture("Qwen3", "causal", _LLAMA),
    "bert": Architecture("BERT", "encoder", _BERT, packed=False),
    "distilbert": Architecture("DistilBERT", "encoder", _DISTILBERT, cached=False, packed=False),
    "modernbert": Architecture("ModernBERT", "encoder", _MODERNBERT, planned=False, cached=False, packed=False),
    "roberta": Architecture("RoBERTa", "encoder", _BERT, padding_first=True, packed=False),
}


def of_kind(kind: str) -> dict[str, Architecture]:
    """Return the causal architectures, or the encoders."""
    return {name: architecture for name, architecture in ARCHITECTURES.items() if architecture.kind == kind}


def block_of(model_type: str, remedy: str = "") -> Block:
    """Return the parts of an architecture's blocks.

    Args:
        model_type: as the model's configuration names the architecture.
        remedy: what the error tells the user to do.

    Raises:
        LabkitError: the architecture is not known.
    """
    if model_type not in ARCHITECTURES:
        raise LabkitError(
            f"labkit does not know where a block of {model_type!r} takes an adapter. "
            f"Known architectures: {', '.join(sorted(ARCHITECTURES))}.",
            remedy or 'Name the layers yourself: target_modules=("…",), as print(model.module) shows them.',
        )
    return ARCHITECTURES[model_type].block


def key_value_heads(config: PretrainedConfig) -> tuple[int, int]:
    """Return the number of key/value heads, and the size of each."""
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    if config.model_type == "falcon":  # the new decoder repeats a group's keys for each of its queries
        return (heads if config.new_decoder_architecture else 1 if config.multi_query else config.num_kv_heads), size
    return getattr(config, "num_key_value_heads", None) or heads, size
