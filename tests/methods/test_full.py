import torch
from safetensors import safe_open

from labkit.methods import FullFineTuning
from labkit.models.precision import store_linear_weights


@torch.no_grad()
def logits(model, ids):
    return model.module(input_ids=ids).logits


def perturb(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)


def test_every_weight_is_trainable_in_float32(tiny):
    tiny.module.requires_grad_(False)
    store_linear_weights(tiny.module, torch.bfloat16)

    tuned = FullFineTuning().apply(tiny)

    assert all(p.requires_grad and p.dtype == torch.float32 for p in tuned.module.parameters())


def test_a_16_bit_model_is_copied_exactly_and_stays_16_bit(tiny):
    store_linear_weights(tiny.module, torch.bfloat16)
    kept = {name: p.clone() for name, p in tiny.module.named_parameters()}
    assert {p.dtype for p in kept.values()} == {torch.float32, torch.bfloat16}

    tuned = FullFineTuning().apply(tiny)

    for name, parameter in tiny.module.named_parameters():
        assert parameter.dtype == kept[name].dtype
        assert torch.equal(tuned.module.get_parameter(name), kept[name].float())


def test_the_copy_has_memory_of_its_own(tiny):
    tuned = FullFineTuning().apply(tiny)
    mine = {p.data_ptr() for p in tuned.module.parameters()}
    assert mine.isdisjoint(p.data_ptr() for p in tiny.module.parameters())


def test_inplace_returns_the_model_itself(tiny):
    pointers = [p.data_ptr() for p in tiny.module.parameters()]
    tuned = FullFineTuning().apply(tiny, inplace=True)
    assert tuned is tiny
    assert [p.data_ptr() for p in tuned.module.parameters()] == pointers


def test_saved_weights_come_back_bit_for_bit(tiny, ids, tmp_path):
    method = FullFineTuning()
    tuned = method.apply(tiny)
    perturb(tuned)
    base = logits(tiny, ids)

    method.save(tuned, tmp_path)
    loaded = method.load(tiny, tmp_path)

    assert torch.equal(logits(loaded, ids), logits(tuned, ids))
    assert not torch.equal(logits(loaded, ids), base)
    assert torch.equal(logits(tiny, ids), base)  # loading left the base alone


def test_tied_weights_are_stored_once_and_stay_tied(tiny, tmp_path):
    method = FullFineTuning()
    method.save(method.apply(tiny), tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        stored = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert stored == sum(p.numel() for p in tiny.module.parameters())
    module = method.load(tiny, tmp_path).module
    assert module.lm_head.weight is module.model.embed_tokens.weight
