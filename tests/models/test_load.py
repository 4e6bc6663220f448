import json
import re

import pytest
import torch
from networks import TEXTS, logits, save, vectors
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

import labkit as lk
from labkit.models.precision import store_linear_weights


@pytest.mark.parametrize("name", ["smollm2-135n", "./smollm2-135n", "smollm"])
def test_an_unknown_model_is_answered_with_the_valid_names(name):
    with pytest.raises(lk.LabkitError, match=re.escape(repr(name))) as caught:
        lk.load_model(name)
    assert "Valid names: minilm, smollm2-135m." in caught.value.remedy


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(lk.LabkitError) as caught:
        lk.load_model("smollm2-153m")
    assert "Did you mean 'smollm2-135m'?" in caught.value.remedy


def test_a_hub_name_is_refused_offline(monkeypatch):
    monkeypatch.setenv("LABKIT_OFFLINE", "1")
    with pytest.raises(lk.LabkitError, match="no-such-owner/no-such-model could not be loaded") as caught:
        lk.load_model("no-such-owner/no-such-model")
    assert "network" in caught.value.remedy


def test_a_saved_folder_loads_as_the_same_model(tiny, saved):
    loaded = lk.load_model(str(saved), precision="float32")
    assert loaded.kind == "causal"
    assert torch.equal(logits(loaded), logits(tiny))
    assert loaded.tokenizer(TEXTS)["input_ids"] == tiny.tokenizer(TEXTS)["input_ids"]


def test_a_saved_encoder_loads_as_the_same_model(tiny_encoder, tmp_path):
    loaded = lk.load_model(save(tiny_encoder, tmp_path / "saved"), precision="float32")
    assert loaded.kind == "encoder"
    assert torch.equal(vectors(loaded, TEXTS), vectors(tiny_encoder, TEXTS))


def test_an_encoder_saved_without_a_pooler_loads(tiny_encoder, tmp_path):
    tiny_encoder.module = BertModel(tiny_encoder.module.config, add_pooling_layer=False).eval()
    loaded = lk.load_model(save(tiny_encoder, tmp_path / "saved"), precision="float32")
    assert torch.equal(vectors(loaded, TEXTS), vectors(tiny_encoder, TEXTS))


def test_pickled_weights_are_refused(saved):
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    with pytest.raises(lk.LabkitError, match="no weights in safetensors format") as caught:
        lk.load_model(str(saved))
    assert "save_pretrained" in caught.value.remedy


def damage_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def damage_config(folder):
    (folder / "config.json").write_text("{")


def damage_shapes(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))


def damage_names(folder):
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("mlp.up_proj", "mlp.upward"): weight for name, weight in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


def damage_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    "damage", [damage_weights, damage_config, damage_shapes, damage_names, damage_tokenizer], ids=lambda f: f.__name__
)
def test_a_damaged_folder_is_refused(saved, damage):
    damage(saved)
    with pytest.raises(lk.LabkitError, match="could not be loaded") as caught:
        lk.load_model(str(saved))
    assert str(saved) in caught.value.cause
    assert "config.json" in caught.value.remedy


def test_a_tokenizer_that_knows_no_words_is_refused(tmp_path):
    # BERT's tokenizer class needs no files: without them it turns every word into [UNK].
    size = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1}
    BertModel(BertConfig(vocab_size=50, **size)).save_pretrained(tmp_path)
    with pytest.raises(lk.LabkitError, match="no vocabulary"):
        lk.load_model(str(tmp_path))


@pytest.mark.parametrize("model_type", ["llama", "brand_new"])
def test_code_that_comes_with_a_model_is_not_run(saved, tmp_path, model_type):
    trace = tmp_path / "trace"
    code = f"open({str(trace)!r}, 'w').close()\nclass Thing:\n    pass\n"
    for name in ("configuration_evil", "modeling_evil", "tokenization_evil"):
        (saved / f"{name}.py").write_text(code)
    for file, entries in {
        "config.json": {"AutoConfig": "configuration_evil.Thing", "AutoModelForCausalLM": "modeling_evil.Thing"},
        "tokenizer_config.json": {"AutoTokenizer": ["tokenization_evil.Thing", "tokenization_evil.Thing"]},
    }.items():
        content = json.loads((saved / file).read_text())
        content["auto_map"] = entries
        if file == "config.json":
            content["model_type"] = model_type
        (saved / file).write_text(json.dumps(content))
    if model_type == "llama":  # transformers has code of its own for it
        assert type(lk.load_model(str(saved)).module).__module__.startswith("transformers.")
    else:
        with pytest.raises(lk.LabkitError, match="could not be loaded") as caught:
            lk.load_model(str(saved))
        assert "their own code" in caught.value.remedy
    assert not trace.exists()


# Precision and device


@pytest.mark.parametrize("wrong", [{"device": "gpu"}, {"precision": "bf16"}, {"device": "cpu", "precision": "float16"}])
def test_a_wrong_device_or_precision_is_refused_before_anything_is_loaded(monkeypatch, tmp_path, wrong):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.setenv("LABKIT_OFFLINE", "1")
    with pytest.raises(lk.LabkitError, match=next(reversed(wrong.values()))):
        lk.load_model("smollm2-135m", **wrong)


def test_sixteen_bits_hold_the_matrices_of_linear_layers_alone(saved):
    model = lk.load_model(str(saved), precision="bfloat16")
    assert model.precision == torch.bfloat16
    for name, parameter in model.module.named_parameters():
        assert (parameter.dtype == torch.bfloat16) == ("_proj" in name), name
    assert model.module.lm_head.weight is model.module.model.embed_tokens.weight


def test_sixteen_bits_lose_nothing_that_autocast_would_keep(tiny):
    tiny.precision = torch.bfloat16
    with tiny.autocast():
        before = logits(tiny)
    store_linear_weights(tiny.module, torch.bfloat16)
    with tiny.autocast():
        assert torch.equal(logits(tiny), before)
