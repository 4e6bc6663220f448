"""What a notebook's outputs depend on, found out inside its kernel.

This file needs Python alone: its text is run in kernels that may not have labkit. ``begin`` comes before the first
cell, ``found`` after the last.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Whose versions matter to numbers, where a notebook loads them. What its cells import themselves comes to these.
PACKAGES = {"accelerate", "bitsandbytes", "datasets", "gguf", "matplotlib", "numpy", "pandas", "peft", "safetensors"}
PACKAGES |= {"scipy", "sklearn", "tokenizers", "torch", "transformers", "trl"}
CODE = {".py", ".pyc", ".ipynb", ".so", ".pth"}
opened: set[str] = set()
written: set[str] = set()


def begin() -> None:
    """Note from now on which files Python opens; what a compiled library opens by itself isn't seen."""
    sys.addaudithook(_note)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str):
        path, mode, flags = arguments
        writes = any(letter in mode for letter in "wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR)
        (written if writes else opened).add(os.path.abspath(path))


def found(imported: Iterable[str], root: str, folder: str) -> dict[str, dict[str, Any]]:
    """Return what the outputs depend on: versions of packages, processor, own modules, and data that was read.

    Args:
        imported: names that the cells import.
        root: the folder of the project; own modules and data lie in it.
        folder: of the notebook.
    """
    return {
        "packages": packages({*imported} | PACKAGES),
        "processor": processor(),
        "sources": sources(Path(root)),
        "data": data(Path(root), folder),
    }


def packages(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of the packages among these that are loaded."""
    owners = importlib.metadata.packages_distributions()
    loaded = sorted({owner for name in names if name in sys.modules for owner in owners.get(name, [])[:1]})
    versions = {name: importlib.metadata.version(name) for name in loaded if not is_own(name)}
    return {"python": platform.python_version(), **versions}


def is_own(package: str) -> bool:
    """Return whether a package is the course itself, whose source counts and not its version."""
    return package == "finetune-labkit"


def processor() -> dict[str, Any]:
    """Return the processor's name and system, and how torch computes on it where it is loaded."""
    about: dict[str, Any] = {"name": _cpu(), "system": f"{platform.system()} {platform.machine()}"}
    if torch := sys.modules.get("torch"):
        if torch.cuda.is_available():
            about["name"] = torch.cuda.get_device_name()
        about |= {"instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
    if precision := sys.modules.get("labkit.models.precision"):
        picked = precision.pick_precision("auto", precision.pick_device())
        about["precision"] = str(picked).removeprefix("torch.")
    return about


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def sources(root: Path) -> dict[str, str]:
    """Return a hash for each own package that is loaded, over its files, and for each own module outside of any."""
    hashes = {}
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and file.endswith(".py") and (name.split(".")[0] == "labkit" or _belongs(Path(file), root)):
            package = getattr(module, "__package__", None) or name
            single = package == name and not hasattr(module, "__path__")
            if package not in hashes:
                hashes[package] = digest([Path(file)] if single else sorted(Path(file).parent.glob("*.py")))
    return hashes


def data(root: Path, folder: str) -> dict[str, str]:
    """Return a hash for each file of the project that was only read, by its path from the notebook's folder."""
    cache = os.environ.get("LABKIT_HOME")  # what comes from pinned archives is no data of the project
    files = {Path(path) for path in opened - written if not (cache and Path(path).is_relative_to(cache))}
    files = {path for path in files if path.is_file() and path.suffix not in CODE and _belongs(path, root)}
    return {Path(os.path.relpath(path, folder)).as_posix(): digest([path]) for path in sorted(files)}


def digest(files: Iterable[Path]) -> str:
    """Return the start of a SHA-256 over the content of files, the same wherever lines end as on Windows."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return whole.hexdigest()[:16]


def _belongs(path: Path, root: Path) -> bool:
    """Return whether a file is the project's own: not in a hidden folder such as .venv, nor of an installed package."""
    if not path.is_relative_to(root) or path.is_relative_to(sys.prefix):
        return False
    parts = path.relative_to(root).parts
    return not any(part.startswith(".") or part.endswith((".egg-info", ".dist-info", "-packages")) for part in parts)
