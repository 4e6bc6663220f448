"""A GGUF file written here, with the ``gguf`` package's own quantization as the reference."""

import json
import os

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer

from labkit.assets.gguf import gguf_to_safetensors

HIDDEN, HEADS, KV_HEADS, WIDE = 64, 4, 2, 96
Q4_1 = gguf.GGMLQuantizationType.Q4_1
VOCABULARY = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "ĠĠ", "Ġ1", "at"]
SHAPES = {
    "token_embd": (len(VOCABULARY), HIDDEN),
    "blk.0.attn_q": (HIDDEN, HIDDEN),
    "blk.0.attn_k": (HIDDEN * KV_HEADS // HEADS, HIDDEN),
    "blk.0.attn_v": (HIDDEN * KV_HEADS // HEADS, HIDDEN),
    "blk.0.attn_output": (HIDDEN, HIDDEN),
    "blk.0.ffn_gate": (WIDE, HIDDEN),
    "blk.0.ffn_up": (WIDE, HIDDEN),
    "blk.0.ffn_down": (HIDDEN, WIDE),
}


@pytest.fixture(scope="module")
def packed():
    """Return 4-bit blocks by tensor name."""
    dice = np.random.default_rng(0)
    return {name: quantize(dice.normal(0, 0.1, shape).astype(np.float32), Q4_1) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def converted(packed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(VOCABULARY))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3] * 3 + [1] * (len(VOCABULARY) - 3))
    writer.add_token_merges(["Ġ Ġ", "Ġ 1", "a t"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, blocks in packed.items():
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=Q4_1)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    made = tmp_path_factory.mktemp("converted")
    gguf_to_safetensors(folder / "tiny.gguf", made)
    assert os.listdir(folder) == ["tiny.gguf"]  # whose it is decides what becomes of it
    return made


@pytest.fixture(scope="module")
def weights(converted):
    return load_file(converted / "model.safetensors")


def test_weights_are_the_dequantized_blocks(weights, packed):
    for ours, theirs in [
        ("embed_tokens", "token_embd"),
        ("layers.0.self_attn.v_proj", "blk.0.attn_v"),
        ("layers.0.self_attn.o_proj", "blk.0.attn_output"),
        ("layers.0.mlp.gate_proj", "blk.0.ffn_gate"),
        ("layers.0.mlp.down_proj", "blk.0.ffn_down"),
    ]:
        expected = torch.from_numpy(dequantize(packed[theirs], Q4_1)).to(torch.bfloat16)
        assert torch.equal(weights[f"model.{ours}.weight"], expected)


@pytest.mark.parametrize(("ours", "theirs", "heads"), [("q_proj", "attn_q", HEADS), ("k_proj", "attn_k", KV_HEADS)])
def test_the_rows_of_each_head_are_put_back_in_the_order_of_transformers(weights, packed, ours, theirs, heads):
    # llama.cpp turns neighbouring pairs (0, 1), (2, 3)…; transformers turns halves: row i with row i + size/2.
    rows = torch.from_numpy(dequantize(packed[f"blk.0.{theirs}"], Q4_1)).to(torch.bfloat16)
    expected = torch.cat([torch.cat([head[0::2], head[1::2]]) for head in rows.chunk(heads)])
    assert torch.equal(weights[f"model.layers.0.self_attn.{ours}.weight"], expected)


def test_only_what_other_tools_read_is_left(converted):
    names = set(os.listdir(converted))
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not any(name.endswith(".gguf") for name in names)


def test_the_config_has_the_sizes_and_no_trace_of_quantization(converted):
    config = json.loads((converted / "config.json").read_text())
    assert (config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]) == (64, 4, 2)
    assert config["tie_word_embeddings"] is True
    assert "quantization_config" not in config


def test_the_tokenizer_splits_digits_off_the_spaces_before_them(converted):
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert tokenizer.tokenize("a  1") == ["a", "ĠĠ", "1"]
    assert tokenizer.tokenize("at 1") == ["at", "Ġ", "1"]
    assert tokenizer.model_max_length == 256
