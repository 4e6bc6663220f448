"""Load a pretrained model: an asset of the course, a folder on this computer, or a name on the hub."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from labkit.assets.fetch import ensure
from labkit.assets.manifest import load_manifest
from labkit.assets.quiet import quiet_transformers
from labkit.errors import LabkitError, first_line, unknown
from labkit.models.model import Model
from labkit.models.precision import pick_device, pick_precision, store_linear_weights
from labkit.models.supported import require_all_used, require_supported
from labkit.storage import cache

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


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
            kind = require_supported(config, name)
            loader = AutoModelForCausalLM if kind == "causal" else AutoModel
            module, report = loader.from_pretrained(  # type: ignore[misc]  # the stub knows no output_loading_info
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as problem:
        raise _unloadable(name, first_line(problem)) from problem
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
        ids = (tokenizer.eos_token_id, tokenizer.unk_token_id, 0)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(next(i for i in ids if i is not None and i < rows))


def _unloadable(name: str, reason: str) -> LabkitError:
    return LabkitError(
        f"{name} could not be loaded: {reason}",
        "A local folder needs config.json, tokenizer files and *.safetensors; a hub name needs a network "
        "once. Models that bring their own code are not run.",
    )


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
