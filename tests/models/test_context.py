from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

import labkit as lk
from labkit.models.context import longest_of

SIZES = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "pad_token_id": 1}
SIZES |= {"intermediate_size": 32, "ffn_dim": 32, "word_embed_proj_dim": 32, "dim": 32, "hidden_dim": 32, "n_heads": 4}
LEARNED = {"bert": 0, "distilbert": 0, "roberta": 0, "gpt2": 1, "opt": 1}


@torch.no_grad()
def test_a_model_reads_as_many_tokens_as_it_says_and_no_more():
    for name, causal in LEARNED.items():
        config = AutoConfig.for_model(name, **SIZES, **{"n_positions": 20, "max_position_embeddings": 20})
        module = (AutoModelForCausalLM if causal else AutoModel).from_config(config).eval()
        model = lk.Model(name, module, None, "causal" if causal else "encoder", torch.float32)
        assert model.max_length == longest_of(config)
        text = torch.full((1, model.max_length), 7)
        assert module(text)[0].isfinite().all(), name
        with pytest.raises((IndexError, RuntimeError)):
            module(torch.full((1, model.max_length + 1), 7))


def test_virtual_tokens_take_their_room(tiny):
    assert tiny.max_length == 512
    for method in (lk.PromptTuning(virtual_tokens=12), lk.PrefixTuning(virtual_tokens=12)):
        assert method.apply(tiny).max_length == 500
    assert lk.LoRA().apply(tiny).max_length == 512


def test_training_reads_no_more_than_the_model_can(tiny_encoder, colours):
    rows = [{"prompt": "grass " * 600 + row["prompt"], "completion": row["completion"]} for row in colours.train]
    long = replace(colours, train=Dataset.from_list(rows))
    for method, most in (("lora", 512), (lk.PrefixTuning(virtual_tokens=12), 500)):
        for given in ({}, {"max_length": 600}):
            with pytest.warns(lk.TruncationWarning) as said:
                run = lk.finetune(tiny_encoder, long, method, steps=1, batch_size=2, progress=False, **given)
            told = [f"24 of 24 prompts were longer than {most} tokens and lost their end."]
            if given:
                told.insert(0, f"max_length=600 is more than tiny-encoder can read: it is trained on {most} tokens.")
            assert [str(warning.message) for warning in said] == told
            assert {warning.filename for warning in said} == {__file__}
            assert run.config.max_length == most
            assert lk.finetune(tiny_encoder, colours, method, steps=1, progress=False).config.max_length == most
