"""Compare time and memory of loading a million short rows of own data with pandas and datasets, on the CPU.

Each contender runs in its own process, one after the other, and reads the same CSV or JSONL file of made-up
texts with eight labels. pandas and datasets read it, and datasets splits it; labkit checks each row as well, keeps
copies of test texts out of training, and looks for near copies.

    python benchmarks/load_million.py [--rows 1000000] [--format csv]
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

TESTED = 300
CONTENDERS = {
    "labkit": "import labkit as lk; load = lk.load_task; run = lambda: load(path).train",
    "pandas": "import pandas as pd; run = lambda: pd.read_json(path, lines=True) if json_lines else pd.read_csv(path)",
    "datasets": (
        "import datasets; kind = 'json' if json_lines else 'csv'; run = lambda: datasets.load_dataset("
        "kind, data_files=path, cache_dir=cache, split='train').train_test_split(test_size=tested, seed=0)['train']"
    ),
}
PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
path, cache, tested, json_lines = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[1].endswith("l")
{contender}
"""
MEASURE = """
import json, resource, time
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began, busy = time.perf_counter(), time.process_time()
size = len(run())
seconds, busy = time.perf_counter() - began, time.process_time() - busy
print(json.dumps([size, seconds, busy, before / 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]))
"""


def measured(program: str, *arguments: str) -> tuple[int, float, float, float, float]:
    """Run a program that defines ``run`` in its own process; return what ``run`` returns the length of, and its costs.

    Returns:
        The length, seconds, seconds of processor time, and gigabytes of resident memory before the run and at the peak.
    """
    command = [sys.executable, "-c", program + MEASURE, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def write(path: Path, rows: int) -> None:
    """Write made-up texts of nine words, about 60 characters, each with one of eight labels."""
    dice = random.Random(0)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(3, 8))) for _ in range(20_000)]
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write("text,label\n")
        for _ in range(rows):
            text, label = " ".join(dice.choices(words, k=9)), f"team {dice.choice('abcdefgh')}"
            row = f"{text},{label}" if path.suffix == ".csv" else json.dumps({"text": text, "label": label})
            file.write(f"{row}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"million.{options.format}"
        write(path, options.rows)
        print(f"{options.rows:,} rows of {options.format}, {path.stat().st_size / 1e6:.0f} MB")
        seconds = {}
        for name, contender in CONTENDERS.items():
            rows, seconds[name], _, before, peak = measured(
                PROGRAM.format(contender=contender), str(path), folder, str(TESTED)
            )
            ratio = seconds[name] / seconds["labkit"]
            print(
                f"{name:9} {seconds[name]:6.1f} s ({ratio:.2f} of labkit's)   {rows:,} rows to train on or in all   "
                f"{peak:.2f} GB at the peak, {before:.2f} of them before"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
