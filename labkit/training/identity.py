"""What a run is made of (model, method, settings, data), and how a checkpoint's differs from a run's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

from labkit.training.batching import Example
from labkit.training.config import TrainingConfig

# A run may resume even if these changed, because they change none of its numbers:
# - the name that a model was loaded under: its fingerprint tells whether it is the same model;
# - a method's own learning rate, which is only the default of the rate in the settings;
# - how often a checkpoint is written;
# - gradient checkpointing, which computes the same activations twice instead of keeping them;
# - the longest text and what is learned of a conversation: they affect the examples alone, and their hash is compared.
#   Only packed rows depend on the longest text, too.
FREE = {
    "model": ("name",),
    "method": ("learning_rate",),
    "settings": ("checkpoint_every", "gradient_checkpointing", "max_length", "learn"),
}


def digest_of(examples: Sequence[Example]) -> str:
    """Return 16 hexadecimal digits of encoded examples: their tokens, what is learned of them, and their order."""
    # What only some examples have is left out of the others, whose digest so stays as it was before masks.
    content = json.dumps([[e.tokens, e.learned, e.label, *([e.mask, e.parts] if e.mask else [])] for e in examples])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def differences(theirs: dict, ours: dict) -> list[str]:
    """Return how a checkpoint's identity (model, method, settings, data) differs from this run's, one line per part."""
    differ = []
    for part, mine in ours.items():
        other = theirs.get(part)
        if not (isinstance(mine, dict) and isinstance(other, dict)):
            differ += [f"{part}: {other} there, {mine} here"] if other != mine else []
            continue
        if part == "settings":  # an older labkit lacked some, and behaved as the defaults do now
            other = asdict(TrainingConfig()) | other
        packed = part == "settings" and mine.get("packing")
        free = [key for key in FREE.get(part, ()) if not (packed and key == "max_length")]
        keys = [key for key in other | mine if key not in free and other.get(key) != mine.get(key)]
        if keys:
            details = ", ".join(f"{key} {other.get(key)} there and {mine.get(key)} here" for key in keys)
            differ.append(f"{part}: {details}")
    return differ
