"""What happens to memory in a training step, measured by a ``Ledger`` or simulated by planning's ``FakeMode``."""

from __future__ import annotations

from typing import NamedTuple

SCRATCH = -1  # address of what an operator on a CPU holds while it works, in a simulation


class Event(NamedTuple):
    """Something that happened.

    ``what`` is "alloc" or "free" (address, size), "gradient" (address: now a parameter's gradient), "enter" or
    "exit" (name of a module, in a forward pass), "phase" ("forward", "loss", "backward", "update"), or "block"
    ("forward" or "backward", and the name of a module whose pass begins, or "loss").
    """

    what: str
    address: int = 0
    size: int = 0
    name: str = ""


class Held(NamedTuple):
    """Memory that is there before the step: its size, kind and module."""

    size: int
    kind: str
    module: str = ""
