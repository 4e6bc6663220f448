"""The events of a training step that concern memory, measured by ``Ledger`` or simulated by ``FakeMode``."""

from __future__ import annotations

from typing import NamedTuple

SCRATCH = -1  # in a simulation, the address of scratch memory inside an operator on a CPU


class Event(NamedTuple):
    """One event of a training step.

    ``what`` is one of:
        "alloc", "free": ``size`` bytes at ``address`` are allocated or released (``size`` may be 0 for "free").
        "gradient": the memory at ``address`` is the gradient of a parameter of module ``name``.
        "enter", "exit": the forward pass of module ``name`` begins or ends.
        "phase": the phase ``name`` begins: "forward", "loss", "backward" or "update".
        "part": of a simulated step that learns from rewards, the part ``name`` begins, such as "sampling".
        "block": the pass ``name`` begins: "forward" or "backward", and a module's path or "loss".
    """

    what: str
    address: int = 0
    size: int = 0
    name: str = ""


class Held(NamedTuple):
    """Memory that exists before the step: its size, kind and module."""

    size: int
    kind: str
    module: str = ""
