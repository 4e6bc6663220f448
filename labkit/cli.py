"""The command ``labkit``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labkit.errors import LabkitError
from labkit.printing import make_printable

CORE = ("smollm2-135m", "hpo", "factbook")  # what the first notebooks need


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status: 0, or 1 if something needs fixing, and then 2 from a server."""
    make_printable()
    parser = argparse.ArgumentParser(prog="labkit", description="Learn fine-tuning by doing it.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="check this computer and say what to fix")
    fetch = commands.add_parser("fetch", help="download models and data into the cache")
    fetch.add_argument("name", nargs="*", help=f"assets (default: {' '.join(CORE)})")
    fetch.add_argument("--all", action="store_true", help="every asset of the course")
    kept = commands.add_parser("kept", help="list the runs that keep=… has kept, with their sizes")
    kept.add_argument("--remove", metavar="NAME", help="remove the runs that are kept under this name")
    bench = commands.add_parser("bench", help="run a comparison whose results notebooks read")
    bench.add_argument("name", help="which one, such as lora-rate")
    bench.add_argument("--out", type=Path, help="folder of the results (default: data/results of the course)")
    bench.add_argument("--part", default="1/1", help="2/3 runs the second of three shares (default: all)")
    _plan_options(commands.add_parser("plan", help="predict how much memory a training step takes"))
    look = commands.add_parser("inspect", help="look for copies, leaks, suspect labels and personal data in a file")
    look.add_argument("data", help="a .jsonl, .json, .csv, .tsv or .parquet file, or a folder")
    look.add_argument("--prompt", metavar="COLUMN", help="the column that is read, where its name doesn't say so")
    look.add_argument("--completion", metavar="COLUMN", help="the column of labels or answers; with --prompt")
    look.add_argument("--html", type=Path, metavar="FILE", help="write the report as a page that needs no network")
    _serve_options(commands.add_parser("serve", help="answer OpenAI clients with a model and its adapters"))
    refresh = commands.add_parser("refresh", help="execute notebooks anew, and say which outputs changed and why")
    budget = commands.add_parser("budget", help="measure the time, memory and operations of notebooks")
    for command in (refresh, budget):
        command.add_argument("notebook", nargs="*", type=Path, help="notebooks or folders (default: notebooks)")
    refresh.add_argument("--write", action="store_true", help="store the new outputs where all cells ran")
    budget.add_argument("--operations", action="store_true", help="count operations too, in a second run")
    budget.add_argument("--write", action="store_true", help="store the figures in data/budget.json and the README")
    options = parser.parse_args(arguments)
    try:
        if options.command == "doctor":
            from labkit.diagnosis import doctor

            return 0 if doctor() else 1
        handlers = {
            "bench": _bench,
            "budget": _budget,
            "fetch": _fetch,
            "inspect": _inspect,
            "kept": _kept,
            "plan": _plan,
            "refresh": _refresh,
            "serve": _serve,
        }
        return handlers[options.command](options)
    except LabkitError as problem:
        print(f"labkit: {problem}", file=sys.stderr)
        return 2 if options.command == "serve" else 1


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
    from labkit.planning.command import show_plan

    return show_plan(options)


def _inspect(options: argparse.Namespace) -> int:
    from labkit.curation.inspection import inspect

    columns = {"prompt": options.prompt, "completion": options.completion}
    report = inspect(options.data, columns={part: name for part, name in columns.items() if name} or None)
    print("\n".join([str(report), *report.notes, *report.unusable]))
    if options.html:
        report.save(options.html)
        print(f"written: {options.html}")
    return 0


def _serve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", default=CORE[0], help=f"the base: an asset or a folder (default: {CORE[0]})"
    )
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="a LoRA on it: a saved run; may be repeated",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: this computer alone reaches it)")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0 takes a free one")
    for name, meaning in (
        ("batch-size", "requests that are answered together"),
        ("batch-tokens", "tokens of a batch"),
        ("queue", "requests that wait; one more gets 503"),
        ("max-prompt", "tokens of a prompt"),
        ("max-tokens", "new tokens of a reply"),
        ("max-body", "bytes of a request"),
        ("timeout", "seconds of a request"),
    ):
        parser.add_argument(f"--{name}", type=float if name == "timeout" else int, help=f"the most {meaning}")


def _serve(options: argparse.Namespace) -> int:
    from labkit.serving.command import serve_from

    return serve_from(options)


def _refresh(options: argparse.Namespace) -> int:
    from labkit.testing.refresh import refresh

    agree = True
    for result in refresh(options.notebook, options.write):
        print(result, flush=True)
        agree &= result.agrees
    return 0 if agree else 1


def _budget(options: argparse.Namespace) -> int:
    from labkit.testing.budget import budget
    from labkit.testing.measured import HEADING, mean

    print(HEADING)
    rows = []
    for measured in budget(options.notebook, options.operations, options.write):
        print(measured, flush=True)
        rows.append(measured)
    if line := mean(rows):
        print(line)
    return 1 if any(measured.problem for measured in rows) else 0
