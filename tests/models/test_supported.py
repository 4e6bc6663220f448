"""What load_model makes of models that are not plain ones, by their files."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from table import saved, words
from tiny import tiny_model
from tokenizers import AddedToken
from transformers import AutoConfig, BertForMaskedLM, LlamaForSequenceClassification, LlamaModel

import labkit as lk

IDS = torch.tensor([[1, 5, 9, 4, 7]])
pytestmark = pytest.mark.usefixtures("one_thread")


def load(folder):
    return lk.load_model(str(folder), device="cpu", precision="float32")


def edit(folder, **settings):
    """Change a folder's config.json; None takes a setting out."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@torch.no_grad()
def answer(model):
    return model.module(input_ids=IDS)[0]


def folder_of(module, folder):
    module.save_pretrained(folder)
    words().save_pretrained(folder)
    return folder


def test_models_of_other_kinds_are_refused_by_name_with_what_is_supported(tmp_path):
    (tmp_path / "model.safetensors").touch()
    for kind, what in {
        "t5": "t5, an encoder–decoder",
        "bart": "bart, an encoder–decoder",
        "whisper": "whisper, an encoder–decoder",
        "gemma3": r"gemma3, which is made of several networks \(text_config, vision_config\)",
        "llava": "llava, which is made of several networks",
        "mixtral": "mixtral, a mixture of experts",
        "qwen3_moe": "qwen3_moe, a mixture of experts",
        "deepseek_v3": "deepseek_v3, a mixture of experts",
        "mamba": r"is mamba\.",
        "vit": r"is vit\.",
    }.items():
        AutoConfig.for_model(kind).save_pretrained(tmp_path)
        with pytest.raises(lk.LabkitError, match=what) as caught:
            load(tmp_path)
        assert str(tmp_path) in caught.value.cause
        assert "Llama" in caught.value.remedy
        assert "ModernBERT" in caught.value.remedy


def test_quantized_checkpoints_are_refused_by_the_name_of_their_method(tmp_path):
    saved(tmp_path)
    for settings, what in (
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes, 4 bits"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes, 8 bits"),
        ({"quant_method": "gptq", "bits": 4}, "gptq, 4 bits"),
        ({"quant_method": "awq", "bits": 4}, "awq, 4 bits"),
        ({"quant_method": "fp8"}, "fp8"),
    ):
        edit(tmp_path, quantization_config=settings)
        with pytest.raises(lk.LabkitError, match=rf"is quantized already \({what}\)") as caught:
            load(tmp_path)
        assert "lk.quantize_model" in caught.value.remedy


def test_the_kind_is_told_from_the_model_type_where_no_class_is_named(tmp_path):
    saved(tmp_path)
    expected = answer(load(tmp_path))
    edit(tmp_path, architectures=None)
    model = load(tmp_path)
    assert model.kind == "causal"
    assert torch.equal(answer(model), expected)


def test_a_decoder_saved_without_its_head_is_loaded_where_the_head_is_the_embedding(tmp_path):
    for tied in (True, False):
        whole = tiny_model(tie_word_embeddings=tied)
        base = LlamaModel(whole.module.config)
        base.load_state_dict(whole.module.model.state_dict())
        folder = folder_of(base, tmp_path / str(tied))
        if tied:
            model = load(folder)
            assert model.kind == "causal"
            assert torch.equal(answer(model), answer(whole))
        else:
            with pytest.raises(lk.LabkitError, match=r"its files lack 1 weights, such as lm_head\.weight"):
                load(folder)


def test_an_encoder_is_loaded_without_the_head_of_its_pretraining(tmp_path):
    plain = tiny_model("bert")
    masked = BertForMaskedLM(plain.module.config)
    masked.bert.load_state_dict(plain.module.state_dict(), strict=False)
    model = load(folder_of(masked, tmp_path))
    assert model.kind == "encoder"
    assert torch.equal(answer(model), answer(plain))


def test_heads_that_would_be_dropped_are_refused(tmp_path):
    config = tiny_model().module.config
    config.num_labels = 1
    folder = folder_of(LlamaForSequenceClassification(config), tmp_path)
    for named in (["LlamaForSequenceClassification"], None):  # the weights tell where the configuration does not
        edit(folder, architectures=named)
        with pytest.raises(lk.LabkitError, match=r"LlamaForSequenceClassification|score\.weight|lm_head"):
            load(folder)
    folder = tmp_path / "bert"
    saved(folder, "bert")
    for named in ("BertForSequenceClassification", "BertLMHeadModel", "BertForTokenClassification"):
        edit(folder, architectures=[named])
        with pytest.raises(lk.LabkitError, match=f"it was saved as {named}"):
            load(folder)
    edit(folder, architectures=["BertModel"], is_decoder=True)
    with pytest.raises(lk.LabkitError, match="bert used as a decoder"):
        load(folder)


def test_weights_without_a_place_are_refused_but_for_tables_that_are_computed(tmp_path):
    saved(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    expected = answer(load(tmp_path))
    for name, refused in (
        ("v_head.summary.weight", True),
        ("model.layers.0.self_attn.q_proj.bias", True),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", False),
    ):
        save_file(weights | {name: torch.ones(4)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
        if refused:
            with pytest.raises(lk.LabkitError, match=rf"1 weights that have no place in one \({name}\)"):
                load(tmp_path)
        else:
            assert torch.equal(answer(load(tmp_path)), expected)


# Tokenizers


def test_a_tokenizer_without_a_token_for_padding_pads_with_one_that_the_model_knows(tmp_path):
    tokenizer = words()
    tokenizer.pad_token = tokenizer.eos_token = None
    model = load(saved(tmp_path, tokenizer=tokenizer))
    assert model.tokenizer.pad_token == "<unk>"
    assert model.tokenizer.eos_token is None
    batch = model.tokenizer(["Read the text", "yes"], padding=True, return_tensors="pt")
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    model.module(**batch)


def test_a_token_for_padding_beyond_the_table_is_replaced(tmp_path):
    tokenizer = words()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    model = load(saved(tmp_path, tokenizer=tokenizer, vocab_size=len(tokenizer) - 1))
    assert model.tokenizer.pad_token == "</s>"
    assert max(model.tokenizer(["yes", "Read the"], padding=True)["input_ids"][0]) < len(tokenizer) - 1


def test_words_beyond_the_table_are_refused_and_marks_are_not(tmp_path):
    tokenizer = words()
    rows = len(tokenizer)
    tokenizer.add_tokens([AddedToken("<image>", special=True)], special_tokens=True)
    assert load(saved(tmp_path / "mark", tokenizer=tokenizer, vocab_size=rows)).tokenizer("yes")["input_ids"]
    tokenizer.add_tokens(["new"])
    with pytest.raises(lk.LabkitError, match=rf"1 tokens that the model has no row for: .* {rows + 1}, .* {rows} rows"):
        load(saved(tmp_path / "word", tokenizer=tokenizer, vocab_size=rows))


def test_weights_of_gpt2_are_stored_in_16_bits_like_those_of_any_linear_layer(tmp_path):
    model = lk.load_model(saved(tmp_path, "gpt2"), device="cpu", precision="bfloat16")
    for name, parameter in model.module.named_parameters():
        linear = ".c_" in name and name.endswith("weight")
        assert (parameter.dtype == torch.bfloat16) == (linear or name == "lm_head.weight"), name
    with model.autocast():
        found = answer(model).float()
    assert torch.nn.functional.cosine_similarity(found, answer(load(tmp_path)), dim=-1).min() > 0.99
