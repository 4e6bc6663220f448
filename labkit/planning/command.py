"""The command ``labkit plan``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from labkit.errors import LabkitError, first_line
from labkit.methods.method import METHODS
from labkit.models.config import BLUEPRINTS, find_config
from labkit.planning.plan import Plan, plan
from labkit.planning.sizes import readable


def show_plan(options: argparse.Namespace) -> int:
    """Print the plan that the options of the command line ask for; return the exit status."""
    settings = {
        "batch_size": options.batch_size,
        "length": options.length,
        "learned": options.learned,
        "precision": options.precision,
        "gradient_checkpointing": options.gradient_checkpointing,
        "gpu": options.gpu,
    }
    if options.method == "all":
        return _show_all(options, settings)
    made = plan(options.model, options.method, **settings)
    if options.json:
        print(json.dumps(_as_dict(made, options.gpu), indent=1))
        return 0
    print(made)
    if options.gpu:
        largest = _largest(made)
        print(f"largest batch of {options.length} tokens: {largest['largest_batch']}")
        print(f"longest text in a batch of {options.batch_size}: {largest['largest_length']} tokens")
    return 0


def _show_all(options: argparse.Namespace, settings: dict[str, Any]) -> int:
    # Wait for a hub that doesn't answer once, not once for each method.
    model = options.model if options.model in BLUEPRINTS else find_config(options.model)[1]
    plans, refused = {}, {}
    for method in METHODS:
        try:
            plans[method] = plan(model, method, **settings)
        except LabkitError as problem:  # one method may not suit the model or the settings, while others do
            refused[method] = problem
    if not plans:
        raise next(iter(refused.values()))
    if options.json:
        print(json.dumps([_as_dict(made, options.gpu) for made in plans.values()], indent=1))
        return 0
    heading = next(iter(plans.values())).heading
    print(f"{heading}\n{'method':<12}{'tensors':>12}{'needed':>12}" + f"{'fits':>8}" * bool(options.gpu))
    for method, made in plans.items():
        fits = f"{'yes' if made.fits else 'no':>8}" if options.gpu else ""
        print(f"{method:<12}{readable(made.peak):>12}{readable(made.total):>12}{fits}")
    for method, reason in refused.items():
        print(f"{method:<12}not possible: {first_line(reason)}")
    return 0


def _as_dict(made: Plan, gpu: str | None) -> dict[str, Any]:
    return made.to_dict() | (_largest(made) if gpu else {})


def _largest(made: Plan) -> dict[str, int]:
    return {"largest_batch": made.largest_batch(), "largest_length": made.largest_length()}
