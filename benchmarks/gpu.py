"""Measure on a CUDA card, within six minutes, what only a card can show, and write data/results/gpu-CARD.json.

It runs the tests that are skipped without a card; compares the quantizer and QLoRA with bitsandbytes, paged AdamW with
torch's, predicted with measured memory of every method on models of 1 to 3 billion parameters, and training speed with
transformers' Trainer and TRL; and makes one real QLoRA step of 65 billion parameters on a card of 48 GB or more. All
weights are random and all tokens synthetic, so it needs no network and no assets. What isn't installed is skipped, and
the file says so.

    python benchmarks/gpu.py [--seconds 350] [--only huge memory] [--out FILE.json]
    python benchmarks/gpu.py --dry        # the same program on the CPU with tiny shapes, nothing is written

Results are written after every section. One that fails is recorded with its error, and the others still run. The exit
status is 1 if one failed, and 2 if nothing could run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the checkout's labkit, installed or not

try:
    import torch
    from gpu_equality import paged_adamw, qlora, quantizer
    from gpu_memory import ledger, memory_error, qlora_65b, submit_65b
    from gpu_models import Bench, Inline, Skipped, hide_cards, release
    from gpu_speed import training_speed
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    print(f"This Python ({sys.executable}) lacks {missing.name}, which labkit needs.", file=sys.stderr)
    print(
        'Install labkit there (pip install -e ".[quant,peft]"), or name another one: make gpu PYTHON=…', file=sys.stderr
    )
    sys.exit(2)

VERSION = 1  # of the file's format
PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets")


def cuda_tests(bench: Bench, found: dict, folder: Path = ROOT / "tests") -> None:
    """Run the tests marked ``cuda``, in a process of their own."""
    if not _version("pytest"):
        raise Skipped("pytest is not installed")
    marked = [path for path in sorted(folder.rglob("test_*.py")) if "mark.cuda" in path.read_text(encoding="utf-8")]
    if not marked:
        raise Skipped(f"no test in {folder} is marked")
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", f"--junitxml={report}"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        done = subprocess.run(
            [*command, *map(str, marked)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # no plugin is needed
            capture_output=True,
            text=True,
            timeout=max(1.0, min(bench.left, 600.0)),
            check=False,
        )
        if not report.is_file():
            raise RuntimeError(f"pytest ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}")
        suite = ElementTree.parse(report).getroot().find("testsuite")
    counts = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    found |= {"passed": passed, "failed": counts["failures"] + counts["errors"], "skipped": counts["skipped"]}
    if found["failed"]:
        raise RuntimeError(f"{found['failed']} tests failed: {done.stdout.strip()[-300:]}")
    if bench.cuda and not passed:
        raise RuntimeError(f"no test was run, {found['skipped']} were skipped")


# What each section does and how many seconds it may take. The most important come first, in case time is short.
SECTIONS: dict[str, tuple[Callable[[Bench, dict], None], int]] = {
    "tests": (cuda_tests, 40),
    "quantizer": (quantizer, 20),
    "paged": (paged_adamw, 15),
    "qlora": (qlora, 25),
    "ledger": (ledger, 25),
    "huge": (qlora_65b, 130),
    "memory": (memory_error, 110),
    "speed": (training_speed, 60),
}


def run_sections(bench: Bench, record: dict, names: list[str], seconds: float) -> None:
    """Run the sections one after the other, each within its own time and all within ``seconds``."""
    end = time.monotonic() + seconds
    for name in names:
        section, budget = SECTIONS[name]
        began = time.monotonic()
        found: dict = {}
        entry = record["sections"][name] = {"status": "running", "seconds": 0.0, "results": found}
        bench.deadline = min(end, began + budget)
        bench.save()
        try:
            if bench.left <= 0:
                raise Skipped("no time left")
            section(bench, found)
            entry["status"] = "ok"
        except Skipped as reason:
            entry |= {"status": "skipped", "why": str(reason)}
        except Exception as problem:
            entry |= _failure(problem)
        try:
            release(bench.device)
        except Exception as problem:  # a card that has failed once fails at everything: record that, too
            entry |= _failure(problem) if entry["status"] != "failed" else {}
        entry["seconds"] = round(time.monotonic() - began, 1)
        bench.save()
        print(f"{name:<11}{entry['status']:<9}{entry['seconds']:>6.1f} s  {_line(entry)}", flush=True)


def _failure(problem: Exception) -> dict:
    """Return the last line of an error and where it came from."""
    *_, at = traceback.extract_tb(problem.__traceback__)
    error = traceback.format_exception_only(problem)[-1].strip()
    return {"status": "failed", "error": error, "at": f"{Path(at.filename).name}:{at.lineno}"}


def _line(entry: dict) -> str:
    """Return a section's most important results in one line."""
    results = entry["results"]
    if text := entry.get("why") or entry.get("error"):
        return text[:150]
    parts = [f"{key} {value}" for key, value in results.items() if isinstance(value, int)]
    parts += [f"{key} {value:.3%}" for key, value in results.items() if key.endswith(("_worst", "_median"))]
    parts += [f"{key}: {len(value)}" for key, value in results.items() if isinstance(value, list) and value]
    for step in results.get("steps", ()):
        error = f"{step['allocated_error']:+.2%}"
        parts.append(f"r={step['rank']}: {step['allocated'] / 1e9:.2f} GB ({error}), {step['seconds']:.1f} s a step")
    if "weights_gap" in results:
        parts.append(f"largest gap {results['weights_gap']:.1e}")
    return ", ".join(parts)


def table(record: dict) -> str:
    """Return the rows worth seeing at once: speed, and memory by method."""
    lines = []
    for row in record["sections"].get("memory", {}).get("results", {}).get("rows", ()):
        errors = "".join(
            f"{row[f'{what}_error']:>+10.2%}" for what in ("allocated", "reserved") if row[f"{what}_error"] is not None
        )
        saving = "checkpointing" if row["checkpointing"] else ""
        size = f"{row['allocated'] / 1e9:>8.2f} GB"
        lines.append(f"{row['model']:<14}{row['precision']:<10}{row['method']:<24}{saving:<14}{size}{errors}")
    for row in record["sections"].get("speed", {}).get("results", {}).get("rows", ()):
        lines.append(f"{row['model']:<14}{row['name']:<34}{row['tokens_per_second']:>10.0f} tokens/s")
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _output(*command: str) -> str:
    """Return what a program prints, or an empty text if it can't run."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def nvidia_smi() -> tuple[str | None, int | None]:
    """Return the driver's version and the bytes in use on the first visible card; None if unknown."""
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    fields = "--query-gpu=driver_version,memory.used"
    driver, _, used = _output("nvidia-smi", "-i", card, fields, "--format=csv,noheader,nounits").partition(", ")
    return driver or None, int(used) * 2**20 if used.isdigit() else None


def circumstances(device: torch.device, driver: str | None) -> dict:
    """Return when, on which computer and with which versions the results were made."""
    made = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": _output("git", "rev-parse", "HEAD") or None,
        "changed": bool(_output("git", "status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
        "card": None,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        made["card"] = {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory": properties.total_memory,
            "driver": driver,
            "cuda": torch.version.cuda,
        }
    return made


def slug(name: str) -> str:
    """Return a card's name as part of a file's name: ``nvidia-h100-80gb-hbm3``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def writer(record: dict, path: Path | None) -> Callable[[], None]:
    """Return a function that writes the record under a temporary name and moves it into place."""

    def write() -> None:
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.part")
            partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            partial.replace(path)

    return write


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="on the CPU, with tiny shapes")
    parser.add_argument("--seconds", type=float, default=350.0, help="for all sections together")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections")
    parser.add_argument("--out", type=Path, help="file to write (default: data/results/gpu-CARD.json, or none if dry)")
    options = parser.parse_args(arguments)
    if not options.dry:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # the rivals would spread the work over all cards
        if not torch.cuda.is_available():
            print("There is no CUDA card here that torch can use. --dry runs on the CPU.", file=sys.stderr)
            return 2
    driver, others = (None, None) if options.dry else nvidia_smi()
    device = torch.device("cpu" if options.dry else "cuda:0")
    record = {"version": VERSION, "dry": options.dry, **circumstances(device, driver), "sections": {}}
    path = options.out
    if path is None and not options.dry:
        path = ROOT / "data" / "results" / f"gpu-{slug(record['card']['name'])}.json"
    pool = Inline()
    if not options.dry:
        workers = max(1, min(6, (os.cpu_count() or 1) // 2))
        # Forked processes can't use a card that is already in use.
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), hide_cards)
    bench = Bench(device, options.dry, pool, save=writer(record, path), others=others)
    try:
        if "huge" in options.only and not options.dry:
            bench.predictions_65b = submit_65b(bench)  # these take a minute, while the card does other work
        run_sections(bench, record, [name for name in SECTIONS if name in options.only], options.seconds)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    print(table(record))
    if path:
        print(f"written to {path}")
    return int(any(entry["status"] == "failed" for entry in record["sections"].values()))


if __name__ == "__main__":
    sys.exit(main())
