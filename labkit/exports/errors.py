"""What an export raises."""

from __future__ import annotations

from collections.abc import Mapping

from labkit.errors import LabkitError


class ExportError(LabkitError):
    """A model cannot be exported, or its exported files are not the same model.

    Attributes:
        faults: what is wrong, by format; each begins with its kind, such as ``"chat template"``. Empty where only one
            file was looked at.
    """

    def __init__(self, cause: str, remedy: str, faults: Mapping[str, list[str]] | None = None):
        super().__init__(cause, remedy)
        self.faults = dict(faults or {})


def not_the_model(name: str, faults: Mapping[str, list[str]]) -> ExportError:
    """Return the error for exports of the model ``name`` with faults, by format."""
    found = "; ".join(f"as {format}, {fault}" for format, several in faults.items() for fault in several)
    return ExportError(
        f"What was exported is not {name}: {found}. It was removed again.",
        "Report it with the versions that `labkit doctor` prints: it is a fault of labkit or of another package.",
        faults,
    )
