"""Count the matrix products in 16 bits that a block of code asks a processor for."""

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

PRODUCTS = {"linear", "matmul", "__matmul__", "__rmatmul__", "mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot"}
PRODUCTS |= {"einsum", "bilinear", "conv1d", "conv2d", "scaled_dot_product_attention", "tensordot", "inner", "outer"}
HALVES = {torch.bfloat16, torch.float16}


class Products16(TorchFunctionMode):
    """Counts products of 16-bit numbers on the CPU by the name of the function.

    A product under autocast is in 16 bits whatever the operands are. Tensors without numbers (fake or on the device
    ``meta``) cost nothing and do not count. A backward pass needs no look: it multiplies in the type of its forward
    pass.
    """

    def __init__(self):
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in PRODUCTS and self._in_16_bits([*args, *kwargs.values()]):
            self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **kwargs)

    @staticmethod
    def _in_16_bits(values) -> bool:
        tensors = [v for v in values if isinstance(v, torch.Tensor)]
        tensors = [t for t in tensors if t.device.type == "cpu" and not isinstance(t, FakeTensor)]
        cast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") in HALVES
        return bool(tensors) and (cast or any(t.dtype in HALVES for t in tensors))
