"""The computer and the versions that a result was computed with."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("torch", "transformers", "finetune-labkit")


def circumstances(device: torch.device, precision: torch.dtype) -> dict:
    """Return the date, the computer and the versions, as they are stored with a result."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": processor(device),
        "threads": torch.get_num_threads(),
        "precision": str(precision).removeprefix("torch."),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def processor(device: torch.device) -> str:
    """Return the name of the GPU or CPU that a device stands for."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
