"""The command ``labkit``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labkit.errors import LabkitError

CORE = ("smollm2-135m", "hpo", "factbook")  # what the first notebooks need


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status: 0, or 1 where something needs mending."""
    parser = argparse.ArgumentParser(prog="labkit", description="Learn fine-tuning by doing it.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="look at this computer and say what to mend")
    fetch = commands.add_parser("fetch", help="bring models and data into the cache")
    fetch.add_argument("name", nargs="*", help=f"assets (default: {' '.join(CORE)})")
    fetch.add_argument("--all", action="store_true", help="every asset of the course")
    bench = commands.add_parser("bench", help="run a comparison whose results the notebooks read")
    bench.add_argument("name", help="which one, such as lora-rate")
    bench.add_argument("--out", type=Path, help="folder of the results (default: data/results of the course)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "doctor":
            from labkit.doctor import doctor

            return 0 if doctor() else 1
        return _bench(options) if options.command == "bench" else _fetch(options)
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


def _bench(options: argparse.Namespace) -> int:
    from labkit.bench import bench

    for number, total, row in bench(options.name, options.out):
        settings = {"rate": row["learning_rate"], "seed": row["seed"], **row["method"]}
        described = " ".join(f"{key}={value}" for key, value in settings.items())
        print(f"{number}/{total}  {row['correct']} of {row['total']}  {described}", flush=True)
    return 0
