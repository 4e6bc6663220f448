import numpy as np
import pytest
import torch
from torch import nn

import labkit as lk
from labkit.training.optimizers import make_optimizer


def gradients(steps):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(4, 3)) for _ in range(steps)]


def by_hand(weight, steps, rate, decay):
    """AdamW in float64, as its paper writes it (Loshchilov and Hutter, 2019, algorithm 2)."""
    mean, square = np.zeros_like(weight), np.zeros_like(weight)
    for step, gradient in enumerate(gradients(steps), 1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        move = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        weight = weight - rate * move - rate * decay * weight
    return weight


def step_through(name, weight, steps, rate, decay, device="cpu"):
    parameter = nn.Parameter(torch.tensor(weight, dtype=torch.float32, device=device))
    optimizer = make_optimizer([parameter], lk.TrainingConfig(optimizer=name, weight_decay=decay))
    optimizer.param_groups[0]["lr"] = rate  # as the loop sets it
    for gradient in gradients(steps):
        parameter.grad = torch.tensor(gradient, dtype=torch.float32, device=device)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return parameter.detach().cpu().numpy()


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_adamw_makes_the_steps_of_its_paper(decay):
    weight = np.linspace(-1, 1, 12).reshape(4, 3)
    found = step_through("adamw", weight, steps=5, rate=0.03, decay=decay)
    np.testing.assert_allclose(found, by_hand(weight, steps=5, rate=0.03, decay=decay), atol=1e-5)


def test_adamw_is_the_default():
    assert type(make_optimizer([nn.Parameter(torch.zeros(1))], lk.TrainingConfig())) is torch.optim.AdamW


def test_a_paged_optimizer_is_refused_on_a_cpu():
    with pytest.raises(lk.LabkitError, match=r"paged optimizer .* this model is on the cpu") as caught:
        make_optimizer([nn.Parameter(torch.zeros(1))], lk.TrainingConfig(optimizer="paged_adamw"))
    assert 'optimizer="adamw"' in caught.value.remedy


@pytest.mark.parametrize("method", ["full", "lora", lk.QLoRA(block_size=32)])
def test_a_run_with_a_paged_optimizer_is_refused_on_a_cpu(tiny, colours, method):
    before = {name: p.clone() for name, p in tiny.module.named_parameters()}
    with pytest.raises(lk.LabkitError, match=r"paged optimizer .* this model is on the cpu"):
        lk.finetune(tiny, colours, method, steps=2, batch_size=4, optimizer="paged_adamw", progress=False)
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in tiny.module.named_parameters())


def test_a_paged_optimizer_has_no_checkpoints(tiny, colours, tmp_path):
    with pytest.raises(lk.LabkitError, match="Checkpoints hold the states of AdamW only"):
        lk.finetune(tiny, colours, optimizer="paged_adamw", checkpoints=tmp_path / "points", progress=False)
    assert not (tmp_path / "points").exists()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a paged optimizer needs a CUDA GPU")
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_paged_optimizer_makes_the_same_steps_on_a_gpu(decay):
    weight = np.linspace(-1, 1, 12).reshape(4, 3)
    found = step_through("paged_adamw", weight, steps=5, rate=0.03, decay=decay, device="cuda")
    np.testing.assert_allclose(found, by_hand(weight, steps=5, rate=0.03, decay=decay), atol=1e-5)
