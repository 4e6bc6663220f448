"""Models of published shape with random weights, made on the device, and the memory of their training steps."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import AutoConfig, PretrainedConfig

import labkit as lk
from labkit.methods import Method
from labkit.methods.targets import replace_layer
from labkit.models.config import BLUEPRINTS, blueprint_config
from labkit.models.meta import meta_model
from labkit.models.precision import pick_precision
from labkit.planning import Step, predict_step
from labkit.planning.allocator import SHARED
from labkit.planning.predict import can_simulate
from labkit.quant.codebooks import levels
from labkit.quant.layers import Quantization
from labkit.quant.linear import Linear4bit
from labkit.training.batching import Example
from labkit.training.loop import Trainer

_LLAMA32 = {
    "model_type": "llama",
    "vocab_size": 128256,
    "intermediate_size": 8192,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
# The Llama 3.2 sizes come from the models' cards; "tiny" is for the dry run.
SHAPES = {
    "llama-3.2-1b": _LLAMA32 | {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32},
    "llama-3.2-3b": _LLAMA32 | {"hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24},
    "tiny": {
        "model_type": "llama",
        "vocab_size": 256,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "tie_word_embeddings": True,
    },
}


class Skipped(Exception):  # noqa: N818  not an error: the reason why something was left out
    """Something cannot be measured here, for the reason given."""


class Inline(Executor):
    """An executor that runs what is submitted at once, in this process."""

    def submit(self, fn: Callable, /, *args, **kwargs) -> Future:
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as problem:
            future.set_exception(problem)
        return future


@dataclass
class Bench:
    """Where and how large to measure.

    Attributes:
        device: a CUDA card, or the CPU for the dry run.
        dry: use tiny shapes, to check that everything runs.
        pool: runs predictions, which need a processor and no card.
        deadline: when the section in progress has to be done, on the clock of ``time.monotonic``.
        save: writes what has been found so far.
        others: bytes of the card in use before this program started.
        predictions_65b: of the steps with 65 billion parameters, by rank, if they were started early.
    """

    device: torch.device
    dry: bool
    pool: Executor = field(default_factory=Inline)
    deadline: float = float("inf")
    save: Callable[[], None] = lambda: None
    others: int | None = None
    predictions_65b: dict[int, Future] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        """Whether there is a card."""
        return self.device.type == "cuda"

    @property
    def precision(self) -> torch.dtype:
        """The 16-bit type that suits the device, or float32; in a dry run float32."""
        # A CPU's products in 16 bits may take scratch memory, which is much beside a tiny model.
        return torch.float32 if self.dry else pick_precision("auto", self.device)

    @property
    def left(self) -> float:
        """Seconds until the section in progress has to be done."""
        return self.deadline - time.monotonic()


def config_of(name: str) -> PretrainedConfig:
    """Return the configuration of a shape or of a blueprint of labkit."""
    if name in BLUEPRINTS:
        return blueprint_config(name)
    settings = dict(SHAPES[name])
    return AutoConfig.for_model(settings.pop("model_type"), **settings)


def examples_of(count: int, length: int, shorter: int = 0, vocabulary: int = 256) -> list[Example]:
    """Return examples of random tokens, all but the first of which are learned, each shorter than the one before."""
    generator = torch.Generator().manual_seed(0)
    lengths = [length - shorter * row for row in range(count)]
    return [Example(torch.randint(3, vocabulary, (n,), generator=generator).tolist(), n - 1) for n in lengths]


def random_model(
    config: PretrainedConfig, precision: torch.dtype, device: torch.device, quantization: Quantization | None = None
) -> lk.Model:
    """Return a model stored as ``load_model`` would store it, or in 4 bits, with random weights on the device.

    Each tensor is made in the type that it is stored in: a 4-bit model never has its weights in 16 bits.
    """
    model = meta_model(config, precision)
    if quantization:
        model = lk.quantize_model(model, quantization, inplace=True)
    materialize(model.module, device)
    return model


@torch.no_grad()
def materialize(module: nn.Module, device: torch.device) -> None:
    """Replace a module's tensors on ``meta`` by random numbers on the device; tied weights stay tied."""
    torch.manual_seed(0)
    made: dict[int, tuple] = {}  # by id, with the old tensor, so that no new object gets its id
    for inner in module.modules():
        for store in (inner._parameters, inner._buffers):
            for name, tensor in store.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    new = torch.empty_like(tensor, device=device, requires_grad=False)
                    if isinstance(inner, Linear4bit) and name != "bias":
                        _fill_4bit(inner, name, new)
                    elif new.dim() > 1:
                        new.normal_(std=new.shape[-1] ** -0.5)
                    else:
                        new.fill_(name != "bias")  # the weight of a norm
                    if isinstance(tensor, nn.Parameter):
                        new = nn.Parameter(new, requires_grad=tensor.requires_grad)
                    made[id(tensor)] = tensor, new
                store[name] = made[id(tensor)][1]
    # Rotary frequencies are calculated, not stored, and ``meta`` calculates nothing.
    for path, inner in list(module.named_modules()):
        if "inv_freq" in inner._buffers:
            replace_layer(module, path, type(inner)(config=module.config).to(device))


def _fill_4bit(layer: Linear4bit, name: str, buffer: torch.Tensor) -> None:
    """Fill a buffer so that the weight is random with a variance of about 1 / inputs, as layers are initialized."""
    spread = levels(layer.quantized.format).square().mean().sqrt().item()
    absmax = layer.in_features**-0.5 / spread
    if buffer.dtype == torch.uint8:
        buffer.random_(0, 256)  # two codes, or the code of a scale, which stands for a number from −1 to 1
    elif name == "offset":
        buffer.fill_(absmax)
    elif name == "scales":
        buffer.fill_(absmax / 2)
    else:
        buffer.uniform_(absmax / 2, 3 * absmax / 2)


def hide_cards() -> None:
    """Hide the cards from a process that predicts, so that it takes no memory for a context."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def predict(step: Step) -> dict:
    """Return the bytes that labkit predicts for a step."""
    prediction = predict_step(step)
    return {
        "tensors": prediction.tensors.peak,
        "allocated": prediction.allocated.peak,
        "reserved": prediction.reserved.peak + SHARED,
        "simulated": can_simulate(),
    }


def measure(model: lk.Model, method: Method, config: lk.TrainingConfig, examples: list[Example]) -> dict:
    """Return the bytes, the seconds and the record of the second step, after which all steps are alike.

    On a card the allocator's own counters are read; on a CPU, labkit's ledger.
    """
    torch.manual_seed(0)
    tuned = method.apply(model, inplace=True)
    device = tuned.device
    release(device)  # what loading left behind isn't the step's
    trainer = Trainer(tuned, examples, config)
    first = _timed(trainer, 0, device)
    if device.type != "cuda":
        with lk.Ledger(tuned.module, trainer.adamw, tuned.head) as ledger:
            record = _timed(trainer, 1, device)
        return record | {"allocated": ledger.report.peak, "reserved": None, "first_seconds": first["seconds"]}
    torch.cuda.reset_peak_memory_stats(device)
    record = _timed(trainer, 1, device)
    held = {
        "allocated": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.max_memory_reserved(device),
        "workspace": workspace(device),
    }
    return record | held | {"first_seconds": first["seconds"]}


def _timed(trainer: Trainer, step: int, device: torch.device) -> dict:
    began = time.perf_counter()
    record = trainer.step(step)
    wait(device)
    return {
        "loss": record["loss"],
        "grad_norm": record["grad_norm"],
        "seconds": round(time.perf_counter() - began, 4),
    }


def wait(device: torch.device) -> None:
    """Wait until the card has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def workspace(device: torch.device) -> int:
    """Return the bytes among those allocated that cuBLAS keeps for itself, and free them."""
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if device.type != "cuda" or clear is None:
        return 0
    held = torch.cuda.memory_allocated(device)
    clear()
    return held - torch.cuda.memory_allocated(device)


def release(device: torch.device) -> None:
    """Give memory that nothing uses any more back to the card."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
