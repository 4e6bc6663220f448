"""What an export raises."""

from __future__ import annotations

from labkit.errors import LabkitError


class ExportError(LabkitError):
    """A model cannot be exported, or its exported files are not the same model."""
