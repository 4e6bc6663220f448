"""Find the layers of a model that a method adapts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence

from torch import nn

from labkit.errors import LabkitError
from labkit.models.architectures import block_of
from labkit.quant.layers import LinearLayer
from labkit.quant.matrix import is_linear, is_transposed, sides


def find_targets(module: nn.Module, names: str | Sequence[str]) -> dict[str, LinearLayer]:
    """Return the linear layers called ``names``, by their path; ``"all-linear"`` is all but the output head.

    A name is a layer's own name (``q_proj``), the end of its path, or its whole path. Layers in 4 bits and GPT-2's
    ``Conv1D`` count as linear: they have a weight and a bias too.

    Raises:
        LabkitError: no linear layer has one of the names; the nearest are listed.
    """
    linear = {path: layer for path, layer in module.named_modules() if isinstance(layer, LinearLayer)}
    head = getattr(module, "get_output_embeddings", lambda: None)()
    if names == "all-linear":
        return {path: layer for path, layer in linear.items() if layer is not head}
    names = as_list(names)
    _require_each(names, linear, "linear layer")
    return {path: layer for path, layer in linear.items() if any(_is_called(path, name) for name in names)}


def require_all_linear(module: nn.Module, method: str) -> None:
    """Raise a ``LabkitError`` where "all linear layers" would be less than it sounds: none, or all but the experts.

    Args:
        module: the network.
        method: what would be done to all linear layers, in the words of an error.
    """
    if not find_targets(module, "all-linear"):
        raise LabkitError(f"{type(module).__name__} has no linear layers for {method}.", "Use another model.")
    # Experts of a mixture are one parameter, (experts, out, in), and filters of a convolution have three sides too.
    left_out = [(name, weight) for name, weight in module.named_parameters() if weight.dim() > 2]
    if left_out:
        name, weight = left_out[0]
        raise LabkitError(
            f"{method} would leave out {len(left_out)} weights of {type(module).__name__} that no linear layer holds, "
            f"such as {name} of shape {tuple(weight.shape)}: the experts of a mixture, or convolutions.",
            "Use a model whose blocks are made of linear layers, or name some in LoRA's target_modules.",
        )


def stored_as(module: nn.Module) -> dict:
    """Return what PEFT must know about how linear layers store their weights: nothing, except for GPT-2's."""
    return {"fan_in_fan_out": True} if any(is_transposed(layer) for layer in module.modules()) else {}


def as_list(names: str | Sequence[str]) -> list[str]:
    """Return target modules as a list; a lone name is a list of one."""
    return [names] if isinstance(names, str) else list(names)


def replace_layer(module: nn.Module, path: str, layer: nn.Module) -> None:
    """Put ``layer`` where ``path`` leads inside ``module``."""
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, layer)


def in_blocks(names: Sequence[str]) -> str:
    """Return a pattern for the full paths of parts of any block: a block's number, then one of the names."""
    return rf".*\.\d+\.({_any(names)})"


def insertion_points(architecture: str, placement: str) -> str:
    """Return a pattern for the paths of the modules that get a bottleneck adapter.

    Raises:
        LabkitError: the architecture is not known, or has no such place.
    """
    block = block_of(architecture)
    names = {"houlsby": (block.o, block.down), "pfeiffer": (block.down,), "parallel": (block.mlp,)}
    if not all(names[placement]):
        raise LabkitError(
            f"The MLP of {architecture} is no module of its own, so that nothing can stand beside it.",
            'Use placement="houlsby" or "pfeiffer".',
        )
    return in_blocks(names[placement])


def width_of(layer: nn.Module, hidden_size: int) -> int:
    """Return how many numbers come out of a layer: its own count where it has one, else the model's."""
    return sides(layer)[1] if is_linear(layer) else hidden_size


def called(names: Sequence[str]) -> str:
    """Return a pattern for the full paths that are one of the names or end with one."""
    return rf"(.*\.)?({_any(names)})"


def matching(module: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """Return the modules whose whole path fits the pattern, as PEFT understands a string for target_modules."""
    return {path: inner for path, inner in module.named_modules() if re.fullmatch(pattern, path)}


def require_names(module: nn.Module, names: Sequence[str]) -> None:
    """Raise a ``LabkitError`` where there are no names, or one that no part of ``module`` has."""
    paths = [path for path, _ in module.named_modules() if path]
    _require_each(names, paths, "part", "Name layers as print(model.module) shows them.")


def _any(names: Sequence[str]) -> str:
    return "|".join(re.escape(name) for name in names)


def _require_each(names: Sequence[str], paths: Collection[str], what: str, remedy: str = "") -> None:
    known = sorted({path.rsplit(".", 1)[-1] for path in paths})
    if not names:
        raise LabkitError("target_modules is empty: nothing would be trained.", f"Choose among {', '.join(known)}.")
    for name in names:
        if not any(_is_called(path, name) for path in paths):
            near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
            raise LabkitError(
                f"No {what} of this model is called {name!r}" + (f"; near to it: {', '.join(near)}." if near else "."),
                remedy or f"Choose among {', '.join(known)}, or all-linear.",
            )


def _is_called(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")
