import pytest
import torch

from labkit.training.state import find_mismatch, restore, tensors_of


def trained(*shapes: int) -> tuple[dict[str, torch.nn.Parameter], torch.optim.Optimizer]:
    torch.manual_seed(0)
    parameters = {name: torch.nn.Parameter(torch.randn(size)) for name, size in zip("ab", shapes, strict=True)}
    optimizer = torch.optim.AdamW(parameters.values())
    parameters["a"].grad = torch.ones_like(parameters["a"])  # b has no states: nothing has used it
    optimizer.step()
    return parameters, optimizer


def test_weights_and_states_come_back():
    parameters, optimizer = trained(3, 2)
    tensors = {name: tensor.clone() for name, tensor in tensors_of(parameters, optimizer).items()}
    assert tensors.keys() == {"weight.a", "weight.b", "step.a", "exp_avg.a", "exp_avg_sq.a"}
    assert find_mismatch(tensors, parameters) is None
    others = {name: torch.nn.Parameter(torch.zeros_like(p)) for name, p in parameters.items()}
    empty = torch.optim.AdamW(others.values())
    restore(tensors, others, empty)
    again = tensors_of(others, empty)
    assert all(torch.equal(tensor, again[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("lost", ["weight.a", "weight.b", "step.a", "exp_avg.a", "exp_avg_sq.a"])
def test_a_missing_tensor_is_found(lost):
    parameters, optimizer = trained(3, 2)
    tensors = tensors_of(parameters, optimizer)
    del tensors[lost]
    assert find_mismatch(tensors, parameters) == lost[-1]


def test_another_shape_is_found():
    parameters, optimizer = trained(3, 2)
    others, _ = trained(3, 4)
    assert find_mismatch(tensors_of(parameters, optimizer), others) == "b"
