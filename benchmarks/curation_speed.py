"""Measure time and peak memory of each part of curation on made-up texts of 30 to 50 words, a fifth of them copies.

Each part runs in its own process, one after the other.

    python benchmarks/curation_speed.py [--rows 100000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

PARTS = {
    "duplicates": "from labkit.curation.duplicates import find_duplicates; "
    "run = lambda: find_duplicates(texts).copy_of",
    "leaks": "from labkit.curation.contamination import find_leaks as find; "
    "run = lambda: find(texts[:-1000], texts[-1000:])",
    "personal": "from labkit.curation.personal import find_personal; "
    "run = lambda: [x for t in texts for x in find_personal(t)]",
    "labels": "from labkit.curation.labels import find_suspects; run = lambda: find_suspects(texts, labels).rows",
}
PROGRAM = """
import json, random, resource, sys, time
rows, dice = int(sys.argv[1]), random.Random(0)
words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(3, 8))) for _ in range(20_000)]
texts = [" ".join(dice.choices(words, k=dice.randint(30, 50))) for _ in range(rows * 4 // 5)]
texts += [f"{text} end" for text in texts[: rows - len(texts)]]
labels = [dice.choice("abcdefgh") for _ in texts]
texts = [f"{text} {label * 3}" for text, label in zip(texts, labels)]
{part}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.perf_counter()
found = len(run())
seconds = time.perf_counter() - began
print(json.dumps([found, seconds, before / 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    for name, part in PARTS.items():
        command = [sys.executable, "-c", PROGRAM.replace("{part}", part), str(options.rows)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found, seconds, before, peak = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name:11}{seconds:7.1f} s  {peak:.2f} GB at the peak, {before:.2f} of them before  {found:,} found",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
