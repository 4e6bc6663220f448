"""Exports that other software reads, each proved in a process without labkit before it gets its name."""

from labkit.exports.errors import ExportError
from labkit.exports.fault_finding import Finding, find_faults
from labkit.exports.faults import FAULTS
from labkit.exports.formats import FORMATS, PROOFS
from labkit.exports.proofs import Proof
from labkit.exports.writing import Exported, export

__all__ = ["FAULTS", "FORMATS", "PROOFS", "ExportError", "Exported", "Finding", "Proof", "export", "find_faults"]
