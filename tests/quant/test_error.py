import itertools

import numpy as np
import pytest
import torch

import labkit as lk


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_the_relative_error_is_that_of_numpy():
    for dtype, shape in itertools.product(
        [torch.float32, torch.float64, torch.bfloat16, torch.float16], [(1,), (300,), (7, 31), (2, 3, 4)]
    ):
        original = torch.nn.Parameter(random(*shape).to(dtype))
        restored = (original + 0.1 * random(2, *shape)[1]).detach().to(dtype)
        x, y = (tensor.detach().double().numpy().ravel() for tensor in (original, restored))
        error = lk.relative_error(original, restored)
        assert type(error) is float
        assert error == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-5)


def test_the_relative_error_is_relative_to_the_original():
    for original, restored, error in [
        ([3, 4], [3, 4], 0),
        ([3, 4], [0, 0], 1),
        ([3, 4], [3, 0], 0.8),
        ([3, 0], [3, 4], 4 / 3),
        ([-2], [2], 2),
    ]:
        pair = (torch.tensor(values, dtype=torch.float32) for values in (original, restored))
        assert lk.relative_error(*pair) == pytest.approx(error)
