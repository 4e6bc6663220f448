"""The memory of a training step: record it, attribute it to kinds and modules, and report it."""

from labkit.memory.ledger import Ledger
from labkit.memory.report import KINDS, MemoryReport

__all__ = ["KINDS", "Ledger", "MemoryReport"]
