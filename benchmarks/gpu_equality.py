"""Compare labkit's quantizer, 4-bit layers and optimizer with those of bitsandbytes and torch, on one device.

On a CPU codes and scales equal those of bitsandbytes bit for bit. Its CUDA kernels are compiled with fast arithmetic,
so numbers on the border between two levels may go either way there. This counts how many do.
"""

from __future__ import annotations

import itertools
import os
from unittest import mock

import torch
from gpu_models import Bench, Skipped, config_of, examples_of, random_model, release
from torch import nn
from torch.nn import functional as F

import labkit as lk
from labkit.methods.adapter import adapters_of
from labkit.quant.blockwise import quantize
from labkit.quant.bnb import bnb_linear, load_bitsandbytes
from labkit.quant.linear import Linear4bit
from labkit.quant.quantized import Quantized
from labkit.training.batching import collate
from labkit.training.objectives import completion_loss
from labkit.training.optimizers import make_optimizer

BLOCK = 64
MOST_CODES = 1e-4  # share of codes that may differ on a card, each by one level
MOST_SCALES = 2e-2  # one level of the 8 bits that scales have under double quantization
MOST_GAP = {"float32": 5e-3, "bfloat16": 2e-2, "float16": 5e-3}  # in products, because of a few codes or scales


def bitsandbytes():
    """Return bitsandbytes, or skip."""
    try:
        return load_bitsandbytes()
    except lk.LabkitError as problem:
        raise Skipped(str(problem).splitlines()[0]) from problem


def quantizer(bench: Bench, found: dict) -> None:
    """Compare codes, scales, restored numbers and products of a layer."""
    bnb = bitsandbytes()
    found["rows"] = []
    shapes = [(48, 128)] if bench.dry else [(2048, 2048), (8192, 2048)]
    types = sorted({torch.float32, bench.precision}, key=str)
    for shape, dtype, format, double in itertools.product(shapes, types, ("nf4", "fp4"), (False, True)):
        torch.manual_seed(0)
        weight = torch.randn(shape, device=bench.device)
        weight = (weight * weight.abs()).to(dtype)  # heavier tails than the levels are made for
        row = {"shape": shape, "dtype": str(dtype).removeprefix("torch."), "format": format, "double": double}
        row |= _stored(bnb, weight, format, double) | _products(weight, format, double, dtype)
        found["rows"].append(row)
    bench.save()
    for row in found["rows"]:
        _judge(bench, row)


def _stored(bnb, weight: torch.Tensor, format: str, double: bool) -> dict:
    """Return how much the two differ in what they store and restore."""
    ours = quantize(weight, format, BLOCK, double)
    codes, state = bnb.functional.quantize_4bit(weight, blocksize=BLOCK, quant_type=format, compress_statistics=double)
    theirs = bnb.functional.dequantize_4bit(codes, state)
    differ = _nibbles(ours.codes) != _nibbles(codes.view(-1))
    scales = _block_scales(bnb, state)
    single = Quantized(codes.view(-1), scales, format, BLOCK, ours.shape, ours.dtype)
    return {
        "codes_differ": differ.float().mean().item(),
        # Where codes differ, by how much of a block's largest number: the widest gap between two levels is 0.33.
        "widest": _gap(ours.dequantize(torch.float32), single.dequantize(torch.float32)),
        "scales_gap": _gap(ours.block_scales(), scales),
        "restored_differ": (ours.dequantize() != theirs).float().mean().item(),
        # Both restore the same codes and scales: only rounding can differ.
        "restoring_gap": _gap(single.dequantize(torch.float32), theirs.float()),
    }


def _nibbles(codes: torch.Tensor) -> torch.Tensor:
    return torch.stack([codes >> 4, codes & 15])


def _block_scales(bnb, state) -> torch.Tensor:
    """Return the scales that bitsandbytes restores with, in float32."""
    if not state.nested:
        return state.absmax
    return bnb.functional.dequantize_blockwise(state.absmax, state.state2).float() + state.offset


def _gap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the largest difference as a share of the largest number."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def _products(weight: torch.Tensor, format: str, double: bool, dtype: torch.dtype) -> dict:
    """Return how far apart the outputs of the two layers and their gradients of the input are."""
    layer = nn.Linear(*reversed(weight.shape), bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    results = []
    for made in (Linear4bit(layer, format, BLOCK, double), bnb_linear(layer, format, BLOCK, double, dtype)):
        torch.manual_seed(1)
        x = torch.randn(4, 33, weight.shape[1], device=weight.device, dtype=dtype, requires_grad=True)
        y = made(x)
        y.float().square().sum().backward()
        results.append((y.detach().float(), x.grad.float()))
    (output, gradient), (other_output, other_gradient) = results
    return {"output_gap": _gap(output, other_output), "gradient_gap": _gap(gradient, other_gradient)}


def _judge(bench: Bench, row: dict) -> None:
    codes, scales, products = 0.0, 0.0, 1e-5
    if bench.cuda:
        codes, products = MOST_CODES, MOST_GAP[row["dtype"]]
        scales = MOST_SCALES if row["double"] else 1e-6
    elif row["dtype"] != "float32":
        products = MOST_GAP[row["dtype"]]
    same = row["codes_differ"] <= codes and row["scales_gap"] <= scales
    if not same or max(row["output_gap"], row["gradient_gap"], row["restoring_gap"]) > products:
        raise RuntimeError(f"labkit and bitsandbytes differ: {row}")


def qlora(bench: Bench, found: dict) -> None:
    """Compare the loss and the gradients of QLoRA with either backend, on random weights and on SmolLM2's."""
    bitsandbytes()
    found |= {"rows": [], "skipped": []}
    config = config_of("tiny" if bench.dry else "llama-3.2-1b")
    config.num_hidden_layers = 2
    for precision in sorted({torch.float32, bench.precision}, key=str):
        found["rows"].append(_backends(random_model(config, precision, bench.device)))
        release(bench.device)
    if bench.dry:
        found["skipped"].append({"model": "smollm2-135m", "why": "a dry run has tiny models only"})
    else:
        try:
            # Download nothing while a card is held.
            with mock.patch.dict(os.environ, {"LABKIT_OFFLINE": "1"}):
                found["rows"].append(_backends(lk.load_model("smollm2-135m", device=str(bench.device))))
        except lk.LabkitError as problem:
            found["skipped"].append({"model": "smollm2-135m", "why": str(problem).splitlines()[0]})
    for row in found["rows"]:
        if row["loss_gap"] > 1e-2 or row["worst_cosine"] < 0.99:
            raise RuntimeError(f"the backends of QLoRA differ: {row}")


def _backends(model: lk.Model) -> dict:
    """Return the loss of each backend, and how similar the gradients of every layer's factors are."""
    batch = collate(examples_of(4, 64, 3), 0, model.device)
    losses, gradients = {}, []
    for backend in ("labkit", "bitsandbytes"):
        torch.manual_seed(0)
        tuned = lk.QLoRA(backend=backend).apply(model)
        with torch.no_grad():
            for adapter in adapters_of(tuned).values():
                adapter.lora_B.normal_(std=0.02)  # at zero, A would get no gradient
        with tuned.autocast():
            loss, count = completion_loss(tuned, batch)
        loss.backward()
        losses[backend] = loss.item() / count
        gradients.append([p.grad.flatten() for p in tuned.trainable().values()])
    cosines = [F.cosine_similarity(a, b, dim=0).item() for a, b in zip(*gradients, strict=True)]
    return {
        "model": model.name,
        "precision": str(model.precision).removeprefix("torch."),
        "losses": losses,
        "loss_gap": abs(losses["labkit"] / losses["bitsandbytes"] - 1),
        "worst_cosine": min(cosines),
    }


def paged_adamw(bench: Bench, found: dict) -> None:
    """Compare paged AdamW with torch's over some steps, and check that its states aren't in torch's memory."""
    if not bench.cuda:
        parameter = nn.Parameter(torch.zeros(4, device=bench.device))
        try:
            make_optimizer([parameter], lk.TrainingConfig(optimizer="paged_adamw"))
        except lk.LabkitError as refusal:
            raise Skipped(str(refusal).splitlines()[0]) from refusal
        raise RuntimeError("a paged optimizer was made where there is no card")
    bitsandbytes()
    weights, states = {}, {}
    for name in ("adamw", "paged_adamw"):
        torch.manual_seed(0)
        # bitsandbytes pages states of 100,000 numbers and more.
        parameter = nn.Parameter(torch.randn(2048, 1024, device=bench.device))
        optimizer = make_optimizer([parameter], lk.TrainingConfig(optimizer=name, weight_decay=0.1))
        before = torch.cuda.memory_allocated(bench.device)
        for step in range(20):
            parameter.grad = torch.randn_like(parameter)
            optimizer.param_groups[0]["lr"] = 1e-2 / (step + 1)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize(bench.device)
        states[name] = torch.cuda.memory_allocated(bench.device) - before
        weights[name] = parameter.detach()
    found |= {"weights_gap": _gap(weights["paged_adamw"], weights["adamw"]), "states_in_torch": states}
    if found["weights_gap"] > 1e-5 or states["paged_adamw"] > states["adamw"] / 100:
        raise RuntimeError(f"paged AdamW is not AdamW with its states paged: {found}")
