"""Sizes of memory as people write them: a number with a unit, or the name of a GPU."""

from __future__ import annotations

import re

from labkit.errors import LabkitError, require_count, unknown

MIB = 2**20
# Memory of common cards in bytes: the total that nvidia-smi shows (in MiB, with ECC on if that is the default).
# It is not a round number, since error correction and the card itself take a part. The driver keeps another 1 to 2%.
GPUS = {
    "t4": 15360 * MIB,  # "Tesla T4"
    "v100": 32768 * MIB,  # "Tesla V100-SXM2-32GB"
    "a10g": 23028 * MIB,  # "NVIDIA A10G", and A10
    "l4": 23034 * MIB,  # "NVIDIA L4"
    "rtx3090": 24576 * MIB,  # "NVIDIA GeForce RTX 3090"
    "rtx4090": 24564 * MIB,  # "NVIDIA GeForce RTX 4090"
    "rtx5090": 32607 * MIB,  # "NVIDIA GeForce RTX 5090"
    "a6000": 49140 * MIB,  # "NVIDIA RTX A6000"
    "l40s": 46068 * MIB,  # "NVIDIA L40S"
    "a100-40gb": 40960 * MIB,  # "NVIDIA A100-SXM4-40GB"
    "a100": 81920 * MIB,  # "NVIDIA A100-SXM4-80GB"
    "h100": 81559 * MIB,  # "NVIDIA H100 80GB HBM3"
    "h200": 143771 * MIB,  # "NVIDIA H200"
    "b200": 183359 * MIB,  # "NVIDIA B200"
}
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_size(text: str | int) -> int:
    """Return bytes from a number of bytes, a size such as ``"48GB"`` or ``"24 GiB"``, or a card's name.

    A GB is 10⁹ bytes, to be on the safe side: makers of cards mean the slightly larger GiB by it. So "80GB" is
    less than "H100 80GB", which names a card and returns the memory of that card.

    Raises:
        LabkitError: it is none of these, or not a possible size.
    """
    if isinstance(text, str) and (card := _card(text)):
        return GPUS[card]
    size = _bytes_of(text) if isinstance(text, str) else text
    try:
        return require_count("gpu", size, low=10**6, high=10**15)
    except LabkitError as problem:
        raise LabkitError(
            f"{text!r} is no size of a GPU's memory.", 'Write one such as "48GB", or a number of bytes.'
        ) from problem


def _card(text: str) -> str | None:
    """Return the key in GPUS for a name in any spelling, such as "RTX 4090" or torch's "NVIDIA A100-SXM4-80GB"."""
    name = re.sub(r"[\s_-]|nvidia|geforce|tesla|pcie|sxm[0-9]?|hbm[0-9]e?|rtx(?=[\s_-]*a)", "", text.lower())
    name = re.sub(r"^([ah]100)80gb$|^(v100)32gb$|^(h200)141gb$", r"\1\2\3", name)
    return {card.replace("-", ""): card for card in GPUS}.get(name)


def _bytes_of(text: str) -> int:
    """Return the bytes of a number with or without a unit."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([A-Za-z]*)", text.strip())
    if not match or match[2].upper() not in {"", *UNITS}:
        raise unknown("size or GPU", text, GPUS, " A size is a number with MB, GB, TB, MiB, GiB or TiB, as in 48GB.")
    return int(float(match[1]) * UNITS[match[2].upper() or "B"])


def readable(size: float) -> str:
    """Return a number of bytes as text: in MB below 10⁹ bytes, then in GB."""
    if abs(size) < 10**9:
        return f"{size / 10**6:.0f} MB"
    return f"{size / 10**9:.1f} GB" if abs(size) < 10**12 else f"{size / 10**9:,.0f} GB"
