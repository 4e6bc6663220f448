"""Check this computer: what the course will run on, and what to fix."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil

import torch

from labkit.assets.fetch import asset_folder, find_damage
from labkit.assets.manifest import load_manifest
from labkit.computer import processor
from labkit.errors import LabkitError
from labkit.extras import EXTRAS, MODULES
from labkit.models.precision import cpu_has_bfloat16, pick_device, pick_precision
from labkit.planning.fit import free_memory
from labkit.printing import make_printable
from labkit.storage import cache, files

NEEDED_MEMORY = 6e9  # bytes; the process of notebook 04 holds 5.5 GB at its peak if it computes in 32 bits
NEEDED_DISK = 1e9  # bytes; the assets and a saved run


def doctor() -> bool:
    """Print the state of this computer and the remedy of each problem; return whether all is well."""
    make_printable()
    device = pick_device()
    free = free_memory(device)
    home = cache.home()
    existing = files.nearest_existing(home)
    disk = shutil.disk_usage(existing).free
    problems = []
    if free < NEEDED_MEMORY:
        problems.append(f"Less than {NEEDED_MEMORY / 1e9:.0f} GB of memory are free: close other programs.")
    if disk < NEEDED_DISK:
        problems.append("Less than 1 GB of disk is free: free some, or set LABKIT_HOME to another disk.")
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        problems.append(f"{home} cannot be written: set LABKIT_HOME to a folder of your own.")
    _line("Python", platform.python_version())
    _line("torch", torch.__version__)
    _line("processor", processor(torch.device("cpu")) or platform.machine())
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    _line("device", f"{device} ({name})")
    in_hardware = torch.cuda.get_device_capability(device) >= (8, 0) if device.type == "cuda" else cpu_has_bfloat16()
    _line("bfloat16", "in hardware" if in_hardware else "not in hardware: emulated, far slower than float32")
    try:
        precision = pick_precision("auto", device)
    except LabkitError as problem:  # the environment names a precision that doesn't exist
        problems.append(str(problem))
    else:
        speed = {torch.bfloat16: "16-bit", torch.float16: "16-bit, with loss scaling"}
        _line("precision", f"{str(precision).removeprefix('torch.')} ({speed.get(precision, '32-bit')})")
    _line("free memory", f"{free / 1e9:.1f} GB")
    _line("free disk", f"{disk / 1e9:.1f} GB")
    _line("network", "off (offline mode)" if cache.offline() else "allowed")
    for asset in load_manifest().values():
        folder = asset_folder(asset)
        damage = find_damage(folder) if folder.exists() else "not fetched"
        _line(asset.name, damage or "ready")
        if damage:
            problems.append(f"{asset.name}: {damage}. Run `labkit fetch {asset.name}`.")
    for package, extra in EXTRAS.items():
        found = importlib.util.find_spec(MODULES.get(package, package)) is not None
        _line(package, importlib.metadata.version(package) if found else "not installed")
        if not found:
            problems.append(f'{package}, which notebooks need, is not installed: run `pip install ".[{extra}]"`.')
    for fault in problems:
        print(f"✗ {fault}")
    print("All is well." if not problems else f"{len(problems)} to fix.")
    return not problems


def _line(name: str, value: str) -> None:
    print(f"{name:<14}{value}")
