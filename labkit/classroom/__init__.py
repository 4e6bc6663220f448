"""Exercises: checks and hints."""

from labkit.classroom import check

__all__ = ["check"]
