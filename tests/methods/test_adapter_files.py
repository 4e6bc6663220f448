import json

import peft
import pytest
import torch
from architectures import outputs
from moved import trained
from safetensors.torch import load_file, save_file
from torch import nn

import labkit as lk
from labkit.methods import LoRA, QLoRA
from labkit.methods.adapter import adapters_of

FILES = {"adapter_config.json", "adapter_model.safetensors"}
METHODS = [
    LoRA(rank=4),
    LoRA(rank=3, alpha=7.5, dropout=0.1, target_modules="q_proj"),
    LoRA(rank=4, target_modules=["self_attn.k_proj", "model.layers.1.mlp.up_proj"], rslora=True),
    LoRA(rank=4, variant="dora"),
    LoRA(rank=3, alpha=5, variant="pissa", rslora=True),
    LoRA(rank=4, variant="pissa", target_modules=("v_proj", "down_proj")),
]
NAMES = ["lora", "lora q", "rslora", "dora", "pissa", "pissa v+down"]


def rewrite(folder, change):
    """Let ``change`` work on the saved tensors."""
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_peft_reads_what_is_saved(tiny, ids, tmp_path, method):
    tuned = trained(tiny, method)
    method.save(tuned, tmp_path)
    expected = outputs(tuned.module, ids)
    assert (expected - outputs(tiny.module, ids)).abs().max() > 1e-2

    theirs = peft.PeftModel.from_pretrained(tiny.copy(share_weights=False).module, tmp_path)
    torch.testing.assert_close(outputs(theirs, ids), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("variant", ["lora", "dora", "pissa"])
def test_peft_reads_the_adapter_of_an_encoder(tiny_encoder, ids, tmp_path, variant):
    method = LoRA(rank=4, variant=variant)
    tuned = trained(tiny_encoder, method)
    method.save(tuned, tmp_path)
    theirs = peft.PeftModel.from_pretrained(tiny_encoder.copy(share_weights=False).module, tmp_path)
    torch.testing.assert_close(outputs(theirs, ids), outputs(tuned.module, ids), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_a_loaded_adapter_answers_bit_for_bit_alike(tiny, ids, tmp_path, method):
    tuned = trained(tiny, method)
    method.save(tuned, tmp_path)
    before = outputs(tiny.module, ids)
    torch.manual_seed(9)  # loading draws new factors first, which must all be overwritten

    loaded = method.load(tiny, tmp_path)

    assert torch.equal(outputs(loaded.module, ids), outputs(tuned.module, ids))
    assert torch.equal(outputs(tiny.module, ids), before)
    expected = tuned.module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.module.state_dict().items())
    assert loaded.trainable().keys() == tuned.trainable().keys()


def test_what_peft_saves_is_read(tiny, ids, tmp_path):
    config = peft.LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "down_proj"], use_dora=True)
    theirs = peft.get_peft_model(tiny.copy(share_weights=False).module, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.rand_like(parameter), alpha=0.1)
    theirs.save_pretrained(tmp_path)
    ours = LoRA(rank=4, alpha=16, target_modules=["q_proj", "down_proj"], variant="dora").load(tiny, tmp_path)
    torch.testing.assert_close(outputs(ours.module, ids), outputs(theirs, ids), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_only_safetensors_and_json_are_written(tiny, tmp_path, method):
    tuned = trained(tiny, method)
    method.save(tuned, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert peft.LoraConfig.from_pretrained(tmp_path).r == config["r"]


@pytest.mark.parametrize("method", METHODS[:4], ids=NAMES[:4])
def test_what_is_written_is_what_was_trained(tiny, tmp_path, method):
    tuned = trained(tiny, method)
    method.save(tuned, tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(t.numel() for t in tensors.values()) == sum(p.numel() for p in tuned.trainable().values())
    assert {t.dtype for t in tensors.values()} == {torch.float32}


def test_pissa_is_written_as_a_lora_of_twice_the_rank(tiny, tmp_path):
    method = LoRA(rank=3, alpha=6, variant="pissa")
    tuned = trained(tiny, method)
    method.save(tuned, tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["r"] == 6
    for path, layer in adapters_of(tuned).items():
        A, B = (tensors[f"base_model.model.{path}.lora_{factor}.weight"] for factor in "AB")
        assert A.shape[0] == B.shape[1] == 6
        torch.testing.assert_close(config["lora_alpha"] / 6 * B @ A, layer.delta(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", ["labkit", "bitsandbytes"])
def test_of_a_4_bit_model_only_the_factors_are_written(tiny, ids, tmp_path, backend):
    method = QLoRA(rank=4, block_size=32, backend=backend)
    tuned = trained(tiny, method)
    method.save(tuned, tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == FILES
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    linear = {name: layer for name, layer in tiny.module.model.named_modules() if isinstance(layer, nn.Linear)}
    expected = {
        f"base_model.model.model.{name}.lora_A.weight": (4, layer.in_features) for name, layer in linear.items()
    }
    expected |= {
        f"base_model.model.model.{name}.lora_B.weight": (layer.out_features, 4) for name, layer in linear.items()
    }
    assert {name: tuple(t.shape) for name, t in tensors.items()} == expected
    numbers = sum(4 * (layer.in_features + layer.out_features) for layer in linear.values())
    header = 200 * len(expected)
    assert 4 * numbers < (tmp_path / "adapter_model.safetensors").stat().st_size < 4 * numbers + header

    loaded = method.load(tiny, tmp_path)  # quantized once more, to the same codes
    assert torch.equal(outputs(loaded.module, ids), outputs(tuned.module, ids))


@pytest.mark.parametrize("name", ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"])
def test_a_missing_tensor_is_named(tiny, tmp_path, name):
    method = LoRA(variant="dora" if "magnitude" in name else "lora")
    method.save(method.apply(tiny), tmp_path)
    layer = "model.layers.1.self_attn.v_proj"
    rewrite(tmp_path, lambda tensors: tensors.pop(f"base_model.model.{layer}.{name}"))
    with pytest.raises(
        lk.LabkitError, match=rf"adapter in .*{tmp_path.name} does.*{layer}\.{name} is missing there and \("
    ):
        method.load(tiny, tmp_path)


@pytest.mark.parametrize(
    ("saved", "loaded", "message"),
    [
        (LoRA(rank=4), LoRA(rank=8), r"q_proj\.lora_A\.weight is \(4, 32\) there and \(8, 32\) here"),
        (LoRA(variant="pissa"), LoRA(), r"q_proj\.lora_A\.weight is \(16, 32\) there and \(8, 32\) here"),
        (LoRA(), LoRA(variant="dora"), r"q_proj\.lora_magnitude_vector is missing there and \(32,\) here"),
        (LoRA(variant="dora"), LoRA(), r"_proj\.lora_magnitude_vector is not in the model"),
        (LoRA(target_modules="k_proj"), LoRA(), r"layers\.0\.self_attn\.q_proj\.lora_A\.weight is missing there"),
        (LoRA(), LoRA(target_modules="q_proj"), r"_proj\.lora_[AB]\.weight is not in the model"),
        (LoRA(alpha=16), LoRA(alpha=8), "lora_alpha is 16 there and 8 here"),
        (LoRA(), LoRA(rslora=True), "use_rslora is False there and True here"),
        (LoRA(variant="pissa", rank=4), LoRA(rank=8), "lora_alpha is 32.0 there and 16 here"),
    ],
)
def test_an_adapter_of_other_settings_is_refused(tiny, tmp_path, saved, loaded, message):
    saved.save(saved.apply(tiny), tmp_path)
    with pytest.raises(lk.LabkitError, match=f"does not fit: .*{message}") as caught:
        loaded.load(tiny, tmp_path)
    assert "settings" in caught.value.remedy
    assert not adapters_of(tiny)


def test_scales_for_each_layer_are_refused(tiny, tmp_path):
    """PEFT's alpha_pattern shows in no tensor: such an adapter would load, and answer wrongly."""
    LoRA().save(LoRA().apply(tiny), tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"alpha_pattern": {"q_proj": 32}}))
    with pytest.raises(lk.LabkitError, match=r"sets alpha_pattern=\{'q_proj': 32\}, which labkit's LoRA lacks"):
        LoRA().load(tiny, tmp_path)
    path.write_text("[")
    with pytest.raises(lk.LabkitError, match="is damaged"):
        LoRA().load(tiny, tmp_path)


def test_an_unknown_tensor_is_named(tiny, tmp_path):
    LoRA().save(LoRA().apply(tiny), tmp_path)
    rewrite(tmp_path, lambda tensors: tensors.update({"base_model.model.model.layers.7.lora_A.weight": torch.zeros(1)}))
    with pytest.raises(lk.LabkitError, match=r"does not fit: model\.layers\.7\.lora_A\.weight is not in the model"):
        LoRA().load(tiny, tmp_path)


def test_an_adapter_of_another_model_is_refused(tiny, tiny_encoder, tmp_path):
    LoRA().save(LoRA().apply(tiny_encoder), tmp_path)
    with pytest.raises(lk.LabkitError, match="does not fit"):
        LoRA().load(tiny, tmp_path)
