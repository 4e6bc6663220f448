"""Measure where the memory of a training step goes."""

from labkit.memory.ledger import Ledger
from labkit.memory.report import KINDS, MemoryReport

__all__ = ["KINDS", "Ledger", "MemoryReport"]
