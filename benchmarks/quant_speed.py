"""Compare the speed of 4-bit quantization with bitsandbytes, in one run on one machine, on the CPU.

Both quantize the same random weights to NF4 in blocks of 64 and dequantize them again. The contenders take
turns, and the best time of each counts, because other work on the machine disturbs it least.

    python benchmarks/quant_speed.py [--seconds 4] [--threads 2]
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable

import torch

from labkit.quant.blockwise import quantize
from labkit.quant.bnb import load_bitsandbytes

SHAPES = [(576, 576), (1536, 576), (4096, 4096)]
DTYPES = [torch.float32, torch.bfloat16]
FORMAT, BLOCK = "nf4", 64


def best_of(contenders: dict[str, Callable], budget: float) -> dict[str, float]:
    """Return the best milliseconds of each, over at least five calls and as many as the time allows."""
    seconds = {name: [] for name in contenders}
    for call in contenders.values():
        call()  # the first call fills caches and doesn't count
    end = time.perf_counter() + budget
    while time.perf_counter() < end or any(len(values) < 5 for values in seconds.values()):
        for name, call in contenders.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: 1000 * min(values) for name, values in seconds.items()}


def measure(bnb, shape: tuple[int, int], dtype: torch.dtype, budget: float) -> dict[str, dict[str, float]]:
    """Return milliseconds by task and contender, after checking that both store and restore the same."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    settings = {"blocksize": BLOCK, "quant_type": FORMAT, "compress_statistics": False}
    ours = quantize(weight, FORMAT, BLOCK)
    codes, state = bnb.quantize_4bit(weight, **settings)
    same = torch.equal(ours.codes, codes.view(-1)) and torch.equal(ours.absmax, state.absmax)
    if not same or not torch.equal(ours.dequantize(), bnb.dequantize_4bit(codes, state)):
        raise SystemExit(f"labkit and bitsandbytes differ for {shape}, {dtype}.")
    tasks = {
        "quantize": {
            "labkit": lambda: quantize(weight, FORMAT, BLOCK),
            "bitsandbytes": lambda: bnb.quantize_4bit(weight, **settings),
        },
        "dequantize": {
            "labkit": ours.dequantize,
            "bitsandbytes": lambda: bnb.dequantize_4bit(codes, state),
        },
    }
    return {task: best_of(contenders, budget) for task, contenders in tasks.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="for each line")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    package = load_bitsandbytes()
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    print(f"bitsandbytes {package.__version__}, {FORMAT}, blocks of {BLOCK}, milliseconds, best of at least 5\n")
    print(f"{'':<34}    labkit  bitsandbytes")
    results = []
    for shape, dtype in itertools.product(SHAPES, DTYPES):
        for task, times in measure(package.functional, shape, dtype, options.seconds).items():
            line = f"{f'{shape[0]} × {shape[1]}':<13}{str(dtype).removeprefix('torch.'):<10}{task:<11}"
            ratio = times["bitsandbytes"] / times["labkit"]
            print(f"{line}{times['labkit']:10.2f}{times['bitsandbytes']:14.2f}   labkit is {ratio:.2f} times as fast")
            results.append({"shape": shape, "dtype": str(dtype), "task": task, **times})
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
