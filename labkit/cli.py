"""The command ``labkit``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import LabkitError, first_line
from labkit.printing import make_printable

if TYPE_CHECKING:
    from labkit.planning import Plan

CORE = ("smollm2-135m", "hpo", "factbook")  # what the first notebooks need


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status: 0, or 1 if something needs fixing."""
    make_printable()
    parser = argparse.ArgumentParser(prog="labkit", description="Learn fine-tuning by doing it.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="check this computer and say what to fix")
    fetch = commands.add_parser("fetch", help="download models and data into the cache")
    fetch.add_argument("name", nargs="*", help=f"assets (default: {' '.join(CORE)})")
    fetch.add_argument("--all", action="store_true", help="every asset of the course")
    kept = commands.add_parser("kept", help="list the runs that finetune(keep=…) has kept, with their sizes")
    kept.add_argument("--remove", metavar="NAME", help="remove the runs that are kept under this name")
    bench = commands.add_parser("bench", help="run a comparison whose results notebooks read")
    bench.add_argument("name", help="which one, such as lora-rate")
    bench.add_argument("--out", type=Path, help="folder of the results (default: data/results of the course)")
    bench.add_argument("--part", default="1/1", help="2/3 runs the second of three shares (default: all)")
    _plan_options(commands.add_parser("plan", help="predict how much memory a training step takes"))
    options = parser.parse_args(arguments)
    try:
        if options.command == "doctor":
            from labkit.diagnosis import doctor

            return 0 if doctor() else 1
        return {"bench": _bench, "fetch": _fetch, "kept": _kept, "plan": _plan}[options.command](options)
    except LabkitError as problem:
        print(f"labkit: {problem}", file=sys.stderr)
        return 1


def _fetch(options: argparse.Namespace) -> int:
    from labkit.assets.fetch import ensure
    from labkit.assets.manifest import load_manifest

    for name in load_manifest() if options.all else options.name or CORE:
        folder = ensure(name)
        print(f"{name:<14}{folder}")
    return 0


def _kept(options: argparse.Namespace) -> int:
    from labkit.runs.shelf import kept_runs, remove_kept

    if options.remove:
        print(f"removed {remove_kept(options.remove) / 1e6:.1f} MB")
        return 0
    for name, folder, size, what in kept_runs():
        print(f"{name:<20} {size / 1e6:>8.1f} MB  {what}  ({folder.name})")
    return 0


def _bench(options: argparse.Namespace) -> int:
    from labkit.comparisons.bench import bench

    for number, total, row in bench(options.name, options.out, _part(options.part)):
        settings = {"rate": row["learning_rate"], "seed": row["seed"], **row["method"]}
        described = " ".join(f"{key}={value}" for key, value in settings.items())
        print(f"{number}/{total}  {row['correct']} of {row['total']}  {described}", flush=True)
    return 0


def _part(text: str) -> tuple[int, int]:
    from labkit.comparisons.bench import require_part

    try:
        return require_part(tuple(int(number) for number in text.split("/")))
    except (ValueError, LabkitError) as problem:
        raise LabkitError(
            f"--part {text} is not a share of the work.", "Write 1/2 and 2/2 for two processes."
        ) from problem


def _plan_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a published size such as llama-65b, an asset, a folder, or a hub name")
    parser.add_argument("--method", default="all", help="such as qlora (default: a table of all)")
    parser.add_argument("--batch-size", type=int, default=1, help="examples in a batch (default: 1)")
    parser.add_argument("--batch", dest="batch_size", type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, default=512, help="tokens of an example (default: 512)")
    parser.add_argument(
        "--learned", type=int, help="tokens of an example that are learned (default: all but the first)"
    )
    parser.add_argument("--precision", default="bfloat16", help="bfloat16 (default), float16 or float32")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="less memory, more time")
    parser.add_argument(
        "--checkpointing", dest="gradient_checkpointing", action="store_true", help=argparse.SUPPRESS, default=False
    )
    parser.add_argument("--gpu", help="a size such as 48GB, or a card such as T4")
    parser.add_argument("--json", action="store_true", help="print JSON, with sizes in bytes")


def _plan(options: argparse.Namespace) -> int:
    import json

    from labkit.planning.plan import plan

    settings = {
        "batch_size": options.batch_size,
        "length": options.length,
        "learned": options.learned,
        "precision": options.precision,
        "gradient_checkpointing": options.gradient_checkpointing,
        "gpu": options.gpu,
    }
    if options.method == "all":
        return _plan_all(options, settings)
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


def _plan_all(options: argparse.Namespace, settings: dict[str, Any]) -> int:
    import json

    from labkit.methods.method import METHODS
    from labkit.models.config import BLUEPRINTS, find_config
    from labkit.planning.plan import plan
    from labkit.planning.sizes import readable

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
