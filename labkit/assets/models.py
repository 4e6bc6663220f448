"""Pretrained models: an asset of the course, a folder on this computer, or a name on the hub."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from labkit.assets import cache
from labkit.assets.convert import quiet_transformers
from labkit.assets.fetch import ensure
from labkit.assets.manifest import load_manifest
from labkit.assets.precision import pick_device, pick_precision
from labkit.errors import LabkitError, require_count, unknown
from labkit.quant.bnb import bnb_layers, guard, quantized_tensors
from labkit.quant.layers import Quantization, is_4bit

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass
class Model:
    """A pretrained network with its tokenizer.

    Attributes:
        name: what it was loaded as.
        module: the network, a transformers module, perhaps with adapted layers inside.
        tokenizer: its tokenizer, which pads on the right.
        kind: ``"causal"`` (predicts the next token) or ``"encoder"`` (turns a text into vectors).
        precision: the type that matrix products are computed in.
        head: an encoder's classifier, shape (classes, hidden size); None until it was fine-tuned.
        quantization: how the weights of its linear layers are stored in 4 bits; None where they are not.
        origin: the fingerprint from before quantization.
    """

    name: str
    module: nn.Module
    tokenizer: object
    kind: str
    precision: torch.dtype
    head: nn.Linear | None = None
    quantization: Quantization | None = None
    origin: str = ""

    def __post_init__(self):
        guard(self.module)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the weights take: parameters, buffers, and the scales of 4-bit weights."""
        tensors = [*self.parameters(), *self.module.buffers(), *quantized_tensors(self.module)]
        return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def parameters(self) -> list[nn.Parameter]:
        """Return every parameter once, the head's included."""
        return [*self.module.parameters(), *(self.head.parameters() if self.head else ())]

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that require gradients by name; the head's names begin with ``head.``."""
        named = dict(self.module.named_parameters())
        if self.head is not None:
            named |= {f"head.{name}": p for name, p in self.head.named_parameters()}
        return {name: p for name, p in named.items() if p.requires_grad}

    def autocast(self) -> AbstractContextManager:
        """Compute matrix products in ``precision`` inside the block; norms and losses stay in float32."""
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32)

    @torch.no_grad()
    def generate(self, prompt: str, max_new_tokens: int = 20) -> str:
        """Continue a prompt with the likeliest token each time, and return what was added."""
        if self.kind != "causal":
            raise LabkitError(
                f"{self.name} is an encoder: it reads text but cannot write any.",
                "Use a causal model such as smollm2-135m.",
            )
        max_new_tokens = require_count("max_new_tokens", max_new_tokens)
        self.module.eval()
        inputs = self.tokenizer(prompt, return_tensors="pt").to(self.device)
        with self.autocast():
            output = self.module.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        return self.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def copy(self, *, share_weights: bool) -> Model:
        """Return a model with modules of its own; its weights are the same memory, or a float32 copy.

        A method that inserts layers into a copy that shares weights leaves this model untouched.
        """
        if not share_weights:
            self.require_floats()
            return replace(self, module=copy.deepcopy(self.module).float(), head=copy.deepcopy(self.head))
        # deepcopy looks objects up in `memo` before it copies them: here each weight is found there
        # already, as a new Parameter over the old storage, so that only the modules are copied.
        tensors = [*self.module.parameters(), *self.module.buffers()]
        memo = {
            id(t): nn.Parameter(t.data, requires_grad=t.requires_grad) if type(t) is nn.Parameter else t
            for t in tensors
        }
        for layer in bnb_layers(self.module):  # frozen for good: weight and scales may be the same objects
            memo[id(layer.weight.quant_state)] = layer.weight.quant_state
        return replace(self, module=copy.deepcopy(self.module, memo), head=copy.deepcopy(self.head))

    def require_floats(self) -> None:
        """Raise a ``LabkitError`` where weights are stored in 4 bits."""
        if self.quantization:
            raise LabkitError(
                f"{self.name} is stored in 4 bits ({self.quantization.format}), which cannot be trained.",
                "Use QLoRA or LoRA on it, or full fine-tuning on the model as load_model gives it.",
            )

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that tell this network's weights from any other's.

        Hashes each tensor's name and shape and a sample of its values, rounded to bfloat16 so that the
        same weights stored in another precision count as the same. A 4-bit model has that of its original.
        """
        if self.origin:
            return self.origin
        if self.device.type == "meta":
            return "no numbers"
        digest = hashlib.sha256()
        for name, tensor in self.module.state_dict().items():
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            sample = tensor.detach().flatten()[:64].to("cpu", torch.bfloat16)
            digest.update(sample.view(torch.int16).numpy().tobytes())
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.parameters() if p.is_floating_point())
        if self.quantization:
            count += sum(m.in_features * m.out_features for m in self.module.modules() if is_4bit(m))
        stored = f", {self.quantization.format}" if self.quantization else ""
        size = f"{count / 1e9:.1f} billion" if count >= 1e9 else f"{count / 1e6:.1f} million"
        return f"Model({self.name!r}, {self.kind}, {size} parameters{stored}, {self.device})"


def load_model(name: str, *, device: str = "auto", precision: str = "auto") -> Model:
    """Load a pretrained model.

    Args:
        name: an asset (``"smollm2-135m"``, ``"minilm"``), a local folder, or a hub name with a slash.
        device: ``"auto"`` takes a CUDA GPU where there is one.
        precision: ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``. In a 16-bit precision the
            matrices of linear layers are stored in 16 bits, and the rest stays in float32: autocast would
            round those matrices at every step anyhow, so nothing is lost and memory is saved.

    Raises:
        LabkitError: unknown name, unusable folder, or nothing cached and no network.
    """
    chosen = pick_device(device)
    dtype = pick_precision(precision, chosen)
    folder = locate(name)
    options = {"trust_remote_code": False, "local_files_only": cache.offline() or Path(folder).exists()}
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, **options)
            kind = "causal" if _is_causal(config) else "encoder"
            loader = AutoModelForCausalLM if kind == "causal" else AutoModel
            module, report = loader.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as problem:
        raise _unloadable(name, str(problem).strip().splitlines()[0]) from problem
    # transformers fills such gaps silently: with random weights (an unused pooler may be missing), and with
    # a tokenizer that knows no words.
    if missing := sorted(key for key in report["missing_keys"] if "pooler" not in key):
        raise _unloadable(name, f"its files lack {len(missing)} weights, such as {missing[0]}.")
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise _unloadable(name, "its tokenizer has no vocabulary.")
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    store_linear_weights(module, dtype)
    return Model(name, module.eval().to(chosen), tokenizer, kind, dtype)


def _unloadable(name: str, reason: str) -> LabkitError:
    return LabkitError(
        f"{name} could not be loaded: {reason}",
        "A local folder needs config.json, tokenizer files and *.safetensors; a hub name needs a network "
        "once. Models that bring their own code are not run.",
    )


def store_linear_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Store the matrices of linear layers in ``dtype``, except those tied to an embedding."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and id(layer.weight) not in embeddings:
            layer.weight.data = layer.weight.data.to(dtype)


def locate(name: str, *, weights: bool = True, others: Iterable[str] = ()) -> str:
    """Return the folder of a model, or its name on the hub.

    Args:
        name: an asset, a local folder, or a hub name with a slash.
        weights: whether a local folder must hold weights, too.
        others: names that an error is to list beside the assets.

    Raises:
        LabkitError: it is none of these, or the folder holds no weights in safetensors format.
    """
    models = [asset.name for asset in load_manifest().values() if asset.kind == "model"]
    if name in models:
        return str(ensure(name))
    folder = Path(name).expanduser()
    if folder.is_dir():
        if weights and not any((folder / file).exists() for file in WEIGHTS):
            raise LabkitError(
                f"{folder} holds no weights in safetensors format ({' or '.join(WEIGHTS)}).",
                "Save the model with save_pretrained; pickled weights (.bin, .pt) are never loaded.",
            )
        return str(folder)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name
    raise unknown(
        "model", name, sorted({*models, *others}), " A local folder or a hub name such as owner/model works too."
    )


def _is_causal(config) -> bool:
    return any(a.endswith(("ForCausalLM", "LMHeadModel")) for a in config.architectures or ())
