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
# - the longest text: it affects the examples alone, and their hash is compared.
FREE = {
    "model": ("name",),
    "method": ("learning_rate",),
    "settings": ("checkpoint_every", "gradient_checkpointing", "max_length"),
}


def digest_of(examples: Sequence[Example]) -> str:
    """Return 16 hexadecimal digits of encoded examples: their tokens, what is learned of them, and their order."""
    content = json.dumps([(e.tokens, e.learned, e.label) for e in examples])
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
        keys = [key for key in other | mine if key not in FREE.get(part, ()) and other.get(key) != mine.get(key)]
        if keys:
            details = ", ".join(f"{key} {other.get(key)} there and {mine.get(key)} here" for key in keys)
            differ.append(f"{part}: {details}")
    return differ
