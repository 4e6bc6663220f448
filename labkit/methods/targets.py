"""Which layers of a model a method adapts."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from torch import nn

from labkit.errors import LabkitError
from labkit.quant.linear import Linear4bit


def find_targets(module: nn.Module, names: str | Sequence[str]) -> dict[str, nn.Module]:
    """Return the linear layers called ``names``, by their path; ``"all-linear"`` is all but the output head.

    A name is a layer's own name (``q_proj``), the end of its path, or its whole path.

    Raises:
        LabkitError: a name is no linear layer's; the nearest names are listed.
    """
    linear = {path: layer for path, layer in module.named_modules() if isinstance(layer, nn.Linear | Linear4bit)}
    head = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    if names == "all-linear":
        return {path: layer for path, layer in linear.items() if layer is not head}
    names = as_list(names)
    known = sorted({path.rsplit(".", 1)[-1] for path in linear})
    if not names:
        raise LabkitError("target_modules is empty: nothing would be trained.", f"Choose among {', '.join(known)}.")
    for name in names:
        if not any(_is_called(path, name) for path in linear):
            near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
            raise LabkitError(
                f"No linear layer of this model is called {name!r}"
                + (f"; near to it: {', '.join(near)}." if near else "."),
                f"Choose among {', '.join(known)}, or all-linear.",
            )
    return {path: layer for path, layer in linear.items() if any(_is_called(path, name) for name in names)}


def as_list(names: str | Sequence[str]) -> list[str]:
    """Return target modules as a list; a lone name is a list of one."""
    return [names] if isinstance(names, str) else list(names)


def replace_layer(module: nn.Module, path: str, layer: nn.Module) -> None:
    """Put ``layer`` where ``path`` leads inside ``module``."""
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, layer)


def _is_called(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")
