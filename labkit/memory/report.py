"""What was in memory at the peak of a training step, by kind and by module."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from labkit.errors import require_count

KINDS = ("trainable", "frozen", "quantized", "optimizer", "gradients", "activations", "logits", "temporaries")


@dataclass(frozen=True)
class MemoryReport:
    """Bytes at the moment of a step when the most memory was in use.

    Attributes:
        trainable: weights that are trained.
        frozen: weights in floats that are not trained, and buffers.
        quantized: weights in 4 bits, with their scales.
        optimizer: AdamW's two running means for each trained weight, and step counters.
        gradients: one number for each trained weight that has its gradient at that moment.
        activations: what the forward pass keeps for the backward pass, autocast's 16-bit copies of weights included;
            where replies are drawn, the cache of keys and values.
        logits: what the head and the loss allocate: scores, loss, their gradients, and autocast's copy of the head.
        temporaries: all else, released before the step ends: intermediate results, and operators' scratch memory.
        modules: bytes by the path of their module; the loss and the temporaries of the backward pass
            have no module and count under "".
        timeline: bytes of each kind, in the order of KINDS, at moments of the step.
        phases: index in the timeline at which each phase ("forward", "loss", "backward", "update") began.
        resident: memory of the whole process as the operating system counts it; 0 if no step was run.
    """

    trainable: int = 0
    frozen: int = 0
    quantized: int = 0
    optimizer: int = 0
    gradients: int = 0
    activations: int = 0
    logits: int = 0
    temporaries: int = 0
    modules: dict[str, int] = field(default_factory=dict, repr=False)
    timeline: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    phases: dict[str, int] = field(default_factory=dict, repr=False)
    resident: int = 0

    @property
    def peak(self) -> int:
        """Bytes in use at the peak."""
        return sum(getattr(self, kind) for kind in KINDS)

    @property
    def parameters(self) -> int:
        """Bytes of all weights."""
        return self.trainable + self.frozen + self.quantized

    def megabytes(self) -> dict[str, float]:
        """Return the bytes of each kind in units of 10⁶ bytes."""
        return {kind: getattr(self, kind) / 1e6 for kind in KINDS}

    def by_module(self, depth: int) -> dict[str, int]:
        """Return the bytes by module; modules deeper than ``depth`` count with their parent at that depth."""
        depth = require_count("depth", depth, low=0)
        sums: Counter[str] = Counter()
        for path, size in self.modules.items():
            sums[".".join(path.split(".")[:depth])] += size
        return dict(sums)
