"""Which settings go with learning from rewards."""

from __future__ import annotations

from typing import Any

from labkit.errors import LabkitError, shown
from labkit.methods import Method
from labkit.methods.adapter import AdapterMethod
from labkit.training.config import TrainingConfig
from labkit.training.rl import RL

# Settings of a run that mean nothing here, with what they may be.
UNUSED: dict[str, Any] = {
    "accumulation": 1,
    "packing": False,
    "learn": "last",
    "gradient_checkpointing": False,
    "optimizer": "adamw",
    "preference": None,
}


def require_suited(rl: RL, config: TrainingConfig, method: Method, *, reference: bool = False) -> None:
    """Raise a ``LabkitError`` where a run's settings or its method can't learn from rewards.

    ``reference`` says whether another model stands beside the one in training, to compare with.
    """
    if not isinstance(rl, RL):
        raise LabkitError(f"rl is {shown(rl)}.", 'Pass lk.RL("grpo"), for example.')
    for name, usual in UNUSED.items():
        if getattr(config, name, usual) != usual:
            raise LabkitError(f"{name}={getattr(config, name)!r} doesn't go with rewards.", f"Leave {name} out.")
    if rl.beta and not reference and not isinstance(method, AdapterMethod):
        raise LabkitError(
            f"With {method.name}, no reference is left: beta={rl.beta:g} compares with the model before training.",
            'Use an adapter, such as "lora", or set beta=0.',
        )
