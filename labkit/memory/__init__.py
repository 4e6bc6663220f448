"""Measure the memory of a training step, or predict it."""

from labkit.memory.ledger import Ledger
from labkit.memory.report import KINDS, MemoryReport

__all__ = ["KINDS", "Ledger", "MemoryReport"]
