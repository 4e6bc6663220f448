"""Combine several fine-tuned adapters into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch

from labkit.errors import LabkitError, require_number, require_seed, shown, unknown
from labkit.methods.adapter import keep_head
from labkit.methods.combinations import WAYS, combined, concatenated
from labkit.methods.factors import Factors, factors_of
from labkit.methods.targets import replace_layer
from labkit.models.model import Model
from labkit.process import own_random_numbers
from labkit.quant.layers import LinearLayer
from labkit.runs import Run
from labkit.runs.adapters import Source, base_of, factors_on, require_base


def combine(
    adapters: Mapping[str, Source],
    weights: Sequence[float],
    *,
    how: str = "linear",
    density: float | None = None,
    base: Model | None = None,
    seed: int = 0,
) -> Model:
    """Return a tuned model with one LoRA made of several, equal to PEFT's ``add_weighted_adapter``.

    Args:
        adapters: of each name, a run, its model, a folder that ``run.save`` or PEFT wrote, or the name of a saved run.
        weights: a number for each adapter, in their order; it may be negative.
        how: ``"linear"``, ``"ties"``, ``"dare"`` or ``"dare_ties"``, which treat each factor by itself and need equal
            ranks, see ``labkit.methods.combinations``; or ``"cat"``, the exact weighted sum of the updates, whose rank
            is the sum of the ranks.
        density: with ``ties``, the share of numbers that is kept, and with ``dare`` the probability that one is; above
            0 up to 1, 0.5 if None.
        base: the model of all adapters; None takes that of the first one that isn't a folder. Its weights are shared.
        seed: of what ``dare`` drops.

    Raises:
        LabkitError: an adapter is no plain LoRA or belongs to another base, ranks differ, or a setting is wrong.
    """
    if not isinstance(adapters, Mapping) or not adapters:
        raise LabkitError(f"Adapters are needed by name, not {shown(adapters)}.", 'Pass {"hospital": run, …}.')
    shares = _numbers(weights, list(adapters))
    if how not in (ways := [*WAYS, "cat"]):
        raise unknown("way to combine adapters", how, ways)
    kept, seed = _density(density, how), require_seed(seed)
    base = base if base is not None else _first_base(adapters)
    require_base(base)
    if base.kind != "causal":
        raise LabkitError(f"{base.name} has a classifier for each task.", "Combine adapters of a causal model.")
    found = {name: factors_on(base, source, name) for name, source in adapters.items()}
    random = torch.Generator().manual_seed(seed)
    tuned = base.copy(share_weights=True)
    keep_head(tuned)
    tuned.module.requires_grad_(False)
    with own_random_numbers(base.device):  # new layers draw numbers, which are not used
        for path, layer in list(tuned.module.named_modules()):
            here = {name: factors[path] for name, factors in found.items() if path in factors}
            if not here:
                continue
            own = [share for name, share in zip(found, shares, strict=True) if name in here]
            if how == "cat":
                one = concatenated(list(here.values()), own)
            else:
                _require_one_rank(here, path, how)
                one = combined(list(here.values()), own, how, kept, random)
            if not (one.A.isfinite().all() and one.B.isfinite().all()):
                raise LabkitError(f"The weights {shown(shares)} are too large: {path} overflows.", "Try 1 for each.")
            replace_layer(tuned.module, path, one.around(cast(LinearLayer, layer)))
    return tuned


def _first_base(adapters: Mapping[str, Source]) -> Model:
    for name, source in adapters.items():
        if isinstance(source, Run | Model):
            tuned = source.model if isinstance(source, Run) else source
            factors_of(tuned, f"The adapter {name!r}")  # refuses what is none
            return base_of(tuned)
    raise LabkitError("Folders hold no base model.", "Pass it: lk.combine(…, base=lk.load_model(…)).")


def _numbers(weights: Sequence[float], names: list[str]) -> list[float]:
    if isinstance(weights, str | Mapping) or not isinstance(weights, Sequence) or len(weights) != len(names):
        raise LabkitError(
            f"A weight is needed for each of {', '.join(map(str, names))}, not {shown(weights)}.",
            "Pass a list of numbers in that order.",
        )
    return [require_number("a weight", weight, remedy="Try 1.") for weight in weights]


def _density(density: float | None, how: str) -> float:
    if density is not None and how in ("linear", "cat"):
        raise LabkitError(f"{how!r} drops nothing, so it takes no density.", 'Leave it out, or use how="ties".')
    density = require_number("density", 0.5 if density is None else density, above=0)
    if density > 1:
        raise LabkitError(f"density is a share, not {density}.", "Try 0.5; 1 keeps all numbers.")
    return density


def _require_one_rank(factors: Mapping[str, Factors], path: str, how: str) -> None:
    ranks = {name: len(each.A) for name, each in factors.items()}
    if len({*ranks.values()}) > 1:
        listed = ", ".join(f"{name} {rank}" for name, rank in ranks.items())
        raise LabkitError(
            f"{how!r} needs equal ranks, and those of {path} differ: {listed}.",
            'Use how="cat", or train the adapters with one rank.',
        )
