"""What goes wrong when models are exported, planted in GGUF files of small Llamas."""

import numpy as np
from gguf.quants import quantize

from labkit.exports.gguf_model import metadata, new_gguf, stored_type
from labkit.exports.gguf_weights import named_weights


def plant(model, path, change):
    """Write a file as write_gguf does, after ``change`` has had its way with what it says and its weights."""
    meta, weights = metadata(model, "f16"), dict(named_weights(model))
    change(meta, weights)
    with new_gguf(path, meta) as writer:
        for name, weight in weights.items():
            kind = stored_type(name, weight.ndim, "f16")
            writer.add_tensor(name, quantize(weight, kind), raw_dtype=kind)
    return path


def other_template(meta, weights):
    meta["tokenizer.chat_template"] = meta["tokenizer.chat_template"].replace("<|im_end|>", "")


def no_end(meta, weights):
    del meta["tokenizer.ggml.eos_token_id"]


def other_base(meta, weights):
    meta["llama.rope.freq_base"] = 10_000.0


def unpermuted(meta, weights):
    for name in weights:
        heads = {"attn_q": 4, "attn_k": 2}.get(name.split(".")[-2])
        if heads:
            size = len(weights[name]) // heads
            order = [head * size + i for head in range(heads) for i in [*range(0, size, 2), *range(1, size, 2)]]
            weights[name] = np.ascontiguousarray(weights[name][order])


def no_head(meta, weights):
    weights.pop("output.weight", None)


def stray_head(meta, weights):
    weights["output.weight"] = weights["token_embd.weight"][::-1].copy()


FAULTS = [
    (other_template, True, r"the chat template \(tokenizer.chat_template\) is"),
    (no_end, True, "the token that ends a text .* is missing, not 14"),
    (other_base, True, "the base of the rotary positions .* is 10000.0, not 50000.0"),
    (unpermuted, True, r"blk.0.attn_q.weight has its rows in the order of transformers.* blk.1.attn_k.weight has"),
    (no_head, False, "output.weight is missing. The head of this model is not tied"),
    (stray_head, True, "output.weight is not of this model: the head, which this model ties"),
]
