"""Measure time and peak memory of inspecting made-up labelled texts of 30 words, a fifth of them near copies.

First each part alone, then the whole as `labkit inspect` runs it: read the file, look for everything, write the page.
Each runs in its own process, one after the other; a thousand rows are in a test file, fifty of them leaked.

    python benchmarks/curation_speed.py [--rows 100000] [--only whole]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from pathlib import Path

from load_million import measured

TESTED, LEAKED = 1000, 50
PARTS = {
    "duplicates": "from labkit.curation.duplicates import find_duplicates; "
    "run = lambda: find_duplicates(train).copy_of",
    "leaks": "from labkit.curation.contamination import find_leaks; run = lambda: find_leaks(train, test)",
    "personal": "from labkit.curation.personal import find_personal; "
    "run = lambda: [each for text in train for each in find_personal(text)]",
    "labels": "from labkit.curation.labels import find_suspects; run = lambda: find_suspects(train, labels).rows",
    "languages": "from labkit.curation.languages import find_languages, find_others; "
    "run = lambda: find_others(find_languages(train))",
    "whole": "from labkit.cli import main; made = folder / 'page.html'; "
    "run = lambda: str(main(['inspect', str(folder), '--html', str(made)]) or made)",
}
PROGRAM = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
if sys.argv[2] != "whole":
    rows = [json.loads(line) for line in (folder / "train.jsonl").open(encoding="utf-8")]
    train, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    test = [json.loads(line)["text"] for line in (folder / "test.jsonl").open(encoding="utf-8")]
{part}
"""


def write(folder: Path, rows: int) -> None:
    """Write made-up texts: a tenth of the words are of the label's own, a twentieth of the labels are wrong."""
    dice = random.Random(0)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(3, 8))) for _ in range(20_000)]
    own = {label: dice.sample(words, 50) for label in "abcdefgh"}

    def row() -> dict[str, str]:
        label = dice.choice("abcdefgh")
        text = " ".join(dice.choices(words, k=27) + dice.choices(own[label], k=3))
        return {"text": text, "label": label if dice.random() > 0.05 else dice.choice("abcdefgh")}

    test = [row() for _ in range(TESTED)]
    train = [row() for _ in range(rows * 4 // 5)] + test[:LEAKED]
    train += [{**copied, "text": f"{copied['text']} end"} for copied in train[: rows - len(train)]]
    for name, part in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in part), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--only", choices=PARTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options.rows)
        print(f"{options.rows:,} rows, {os.cpu_count()} cores, {os.getloadavg()[0]:.1f} other processes busy")
        for part in [options.only] if options.only else PARTS:
            found, seconds, busy, before, peak = measured(PROGRAM.format(part=PARTS[part]), name, part)
            told = "" if part == "whole" else f"   {found:,} found"
            memory = f"{peak:.2f} GB at the peak, {before:.2f} of them before"
            print(f"{part:11}{seconds:7.1f} s, {busy:.1f} of them computing   {memory}{told}", flush=True)


if __name__ == "__main__":
    main()
