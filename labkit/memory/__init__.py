"""Measure the memory of a training step."""

from labkit.memory.ledger import KINDS, Ledger, MemoryReport

__all__ = ["KINDS", "Ledger", "MemoryReport"]
