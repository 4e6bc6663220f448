"""LoRAs for one base model: from runs, tuned models or folders, each checked to belong to that base."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from labkit.errors import LabkitError, shown
from labkit.methods.adapter import adapters_of, require_no_adapter
from labkit.methods.factors import Factors, factors_of, read_factors, require_fit
from labkit.methods.targets import replace_layer
from labkit.models.model import Model
from labkit.models.truncation import warn
from labkit.runs.load import read_record
from labkit.runs.places import place
from labkit.runs.run import Run, describe
from labkit.storage import records

Source: TypeAlias = Run | Model | str | Path


def factors_on(base: Model, source: Source, name: str) -> dict[str, Factors]:
    """Return the factors of a LoRA by the path of their layer in ``base``.

    Those of a run or a model share its memory. A folder of labkit's or of PEFT's is read.

    Args:
        base: the model without adapters.
        source: a run, its model, a folder, or the name of a saved run.
        name: what errors call it.

    Raises:
        LabkitError: it is no LoRA or damaged, or was trained on another model or on other 4-bit weights than ``base``;
            both models are named. PEFT's files don't tell weights from others: there the sizes must fit, and another
            name of the base is warned of.
    """
    name = f"The adapter {name!r}"
    if isinstance(source, Run | Model):
        tuned = source.model if isinstance(source, Run) else source
        factors = factors_of(tuned, name)
        below = base_of(tuned)
        if not _shares(below, base):
            _require_same(describe(below), base, name)
    elif isinstance(source, str | Path):
        folder = place(source, "runs")
        factors, there_name = read_factors(folder, name)
        if (folder / records.FILE).is_file():
            record = read_record(folder / records.FILE)
            stored = record.quantization or getattr(record.method, "quantization", None)  # QLoRA quantizes by itself
            there = record.base | {"quantization": asdict(stored) if stored else None}
            _require_same(there, base, name, old=record.version == 0)
            require_fit(factors, base, name, there_name)
        else:
            require_fit(factors, base, name, there_name)
            if there_name and Path(there_name).name != Path(base.name).name:
                warn(
                    f"{name} says that its base is {shown(there_name)}. It is put on {base.name}: the sizes fit.",
                    UserWarning,
                )
    else:
        raise LabkitError(f"{name} is {shown(source)}.", "Pass a run, its model, or the folder of a saved adapter.")
    for path, each in factors.items():
        if not (each.A.isfinite().all() and each.B.isfinite().all()):
            raise LabkitError(
                f"{name} holds numbers that are not finite, in {path}: it would answer nonsense.",
                "Train it again, at a lower learning rate.",
            )
    return factors


def require_base(base: Model) -> None:
    """Raise a ``LabkitError`` where ``base`` is no model, or has an adapter."""
    if not isinstance(base, Model):
        raise LabkitError(f"The base is {shown(base)}.", "Pass a model, such as lk.load_model returns.")
    require_no_adapter(base)


def base_of(tuned: Model) -> Model:
    """Return the model below the adapters of ``tuned``, in the same memory."""
    plain = tuned.copy(share_weights=True)
    for path, adapter in adapters_of(plain).items():
        replace_layer(plain.module, path, adapter.base)
    plain.untrained_head = None
    return plain


def _shares(one: Model, other: Model) -> bool:
    places = [{name: p.data_ptr() for name, p in each.module.named_parameters()} for each in (one, other)]
    return places[0] == places[1] and one.quantization == other.quantization


def _require_same(there: dict[str, Any], base: Model, name: str, *, old: bool = False) -> None:
    here = describe(base) | ({"fingerprint": base.old_fingerprint()} if old else {})
    if any(there.get(key) != here[key] for key in ("fingerprint", "quantization")):
        raise LabkitError(
            f"{name} was trained on {_shown(there)}, and the base here is {_shown(here)}.",
            "All adapters need the base model that they were trained on: the same weights, stored in the same way.",
        )


def _shown(base: dict[str, Any]) -> str:
    stored = base["quantization"]
    how = ", ".join(f"{key} {value}" for key, value in stored.items()) if stored else "in floats"
    return f"{base['name']} (fingerprint {base['fingerprint']}, {how})"
