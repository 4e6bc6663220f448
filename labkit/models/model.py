"""Pretrained models: an asset of the course, a folder on this computer, or a name on the hub."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from labkit.assets.fetch import ensure
from labkit.assets.gguf import quiet_transformers
from labkit.assets.manifest import load_manifest
from labkit.errors import LabkitError, require_count, unknown
from labkit.models import fingerprint
from labkit.models.architectures import kind_of, require_all_used
from labkit.models.context import longest_of
from labkit.models.generation import continue_text
from labkit.models.precision import pick_device, pick_precision
from labkit.quant.bnb import bnb_layers, guard, quantized_tensors
from labkit.quant.layers import Quantization, is_4bit
from labkit.quant.matrix import LINEAR
from labkit.storage import cache

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
        old_origin: the same, of the kind in saved runs of the first format.
        labels: the classes of the head, in the order of its rows; () where they are not known.
        untrained_head: the head and the labels from before an adapter; None where there is no adapter.
        disabled: whether the model computes as before its adapter; see ``lk.disable_adapter``.
    """

    name: str
    module: nn.Module
    tokenizer: object
    kind: str
    precision: torch.dtype
    head: nn.Linear | None = None
    quantization: Quantization | None = None
    origin: str = ""
    old_origin: str = ""
    labels: tuple[str, ...] = ()
    untrained_head: tuple[nn.Linear | None, tuple[str, ...]] | None = field(default=None, repr=False, compare=False)
    disabled: bool = field(default=False, repr=False, compare=False)
    _fingerprint: tuple[tuple, str] | None = field(default=None, repr=False, compare=False)  # of which state

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

    @property
    def max_length(self) -> int:
        """Tokens of a text that the network can read at once, beside those that an adapter puts before it."""
        tokens = None if self.disabled else getattr(self.module, "virtual_tokens", None)
        return longest_of(self.module.config) - getattr(tokens, "count", 0)

    def generate(self, prompt: str, max_new_tokens: int = 20) -> str:
        """Continue a prompt with the likeliest token each time, and return what was added.

        What the model's files say of sampling, penalties and the like is left aside. The text ends before a token
        that ends texts to the tokenizer or to the model, or after ``max_new_tokens``. A prompt that leaves no room for
        these loses its beginning, with a ``TruncationWarning``.

        Raises:
            LabkitError: the model is an encoder, there is nothing to start from, or no room for so many tokens.
        """
        if self.kind != "causal":
            raise LabkitError(
                f"{self.name} is an encoder: it reads text but cannot write any.",
                "Use a causal model such as smollm2-135m.",
            )
        return continue_text(self, prompt, require_count("max_new_tokens", max_new_tokens))

    def copy(self, *, share_weights: bool) -> Model:
        """Return a model with modules of its own; its weights are the same memory, or a float32 copy.

        A method that inserts layers into a copy that shares weights leaves this model untouched.

        Raises:
            LabkitError: the weights are in 4 bits and not to be shared, or the adapter is disabled.
        """
        if self.disabled:
            raise LabkitError(
                f"{self.name} cannot be copied while its adapter is disabled: the copy's would stay so.",
                "Copy it before or after the block of lk.disable_adapter.",
            )
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
        made = replace(self, module=copy.deepcopy(self.module, memo), head=copy.deepcopy(self.head))
        if self._fingerprint and self._fingerprint[0] == fingerprint.state_of(self.module):
            made._fingerprint = fingerprint.state_of(made.module), self._fingerprint[1]
        return made

    def require_floats(self) -> None:
        """Raise a ``LabkitError`` where weights are stored in 4 bits."""
        if self.quantization:
            raise LabkitError(
                f"{self.name} is stored in 4 bits ({self.quantization.format}), which cannot be trained.",
                "Use QLoRA or LoRA on it, or full fine-tuning on the model as load_model gives it.",
            )

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that tell this network's weights from any other's.

        It covers each tensor's name, shape and all values, rounded to bfloat16 so that the same weights stored
        in another precision count as the same. A 4-bit model has that of its original. It is computed once,
        and again when weights have changed.
        """
        if self.origin or self.device.type == "meta":
            return self.origin or "no numbers"
        state = fingerprint.state_of(self.module)
        if state is None or self._fingerprint is None or self._fingerprint[0] != state:
            self._fingerprint = state, fingerprint.fingerprint(self.module)
        return self._fingerprint[1]

    def old_fingerprint(self) -> str:
        """Return the digits that stand for this network in runs and checkpoints saved without a format version."""
        if self.origin or self.device.type == "meta":
            return self.old_origin or "no numbers"
        return fingerprint.fingerprint_of_samples(self.module)

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
        LabkitError: unknown name, unusable folder, a model that labkit does not support (see
            docs/architectures.md), or nothing cached and no network.
    """
    chosen = pick_device(device)
    dtype = pick_precision(precision, chosen)
    folder = locate(name)
    options = {"trust_remote_code": False, "local_files_only": cache.offline() or Path(folder).exists()}
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, **options)
            kind = kind_of(config, name)
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
    require_all_used(report["unexpected_keys"], kind, name)
    _prepare_tokenizer(tokenizer, module.get_input_embeddings().num_embeddings, name)
    store_linear_weights(module, dtype)
    return Model(name, module.eval().to(chosen), tokenizer, kind, dtype)


def _prepare_tokenizer(tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> None:
    """Have ``tokenizer`` pad on the right with a token that the model, which knows ``rows`` tokens, has a row for."""
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise _unloadable(name, "its tokenizer has no vocabulary.")
    # Marks such as Gemma's for an image may lie beyond: they stand in no text.
    marks = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    if beyond := sorted(n for n in tokenizer.get_vocab().values() if n >= rows and n not in marks):
        raise _unloadable(
            name,
            f"its tokenizer has {len(beyond)} tokens that the model has no row for: their numbers go up to "
            f"{beyond[-1]}, and the model's table of words has {rows} rows.",
        )
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None or tokenizer.pad_token_id >= rows:
        # Whatever stands there is masked, so any token does.
        known = [t for t in (tokenizer.eos_token, tokenizer.unk_token, tokenizer.convert_ids_to_tokens(0)) if t]
        tokenizer.pad_token = next(t for t in known if tokenizer.convert_tokens_to_ids(t) < rows)


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
        if isinstance(layer, LINEAR) and id(layer.weight) not in embeddings:
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
