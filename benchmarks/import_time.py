"""Time ``import labkit`` and ``labkit --help``, each in a new process, compared with Python alone and torch.

The best of several processes counts: other work of the computer only adds to the time.

    python benchmarks/import_time.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time

CONTENDERS = {
    "python alone": ("-c", "pass"),
    "import labkit": ("-c", "import labkit"),
    "labkit --help": ("-m", "labkit", "--help"),
    "labkit, every name": ("-c", "from labkit import *"),
    "import torch": ("-c", "import torch"),
}


def seconds(arguments: tuple[str, ...]) -> float:
    """Return how long a new process takes from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    for name, arguments in CONTENDERS.items():
        best = min(seconds(arguments) for _ in range(options.rounds))
        print(f"  {name:<20}{best:6.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
