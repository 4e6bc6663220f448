"""Does the proof of an export notice a fault? Plant each in a copy of the files, and prove again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from labkit.errors import LabkitError, unknown
from labkit.exports.errors import ExportError
from labkit.exports.faults import FAULTS, SCALE, plant
from labkit.exports.gguf_adapter import check_gguf_adapter
from labkit.exports.gguf_check import check_gguf
from labkit.exports.gguf_formats import ADAPTER, file_of
from labkit.exports.gguf_model import KINDS, write_gguf
from labkit.exports.llama import LlamaCpp
from labkit.exports.llama_proof import beyond_bounds, measure
from labkit.exports.reference import Reference
from labkit.exports.subject import Subject
from labkit.exports.writing import Exported
from labkit.models.model import Model
from labkit.runs.run import Run

POSITIONS = 20  # enough to see a fault; a proof takes more


@dataclass(frozen=True)
class Finding:
    """What was said of a file with a fault.

    Attributes:
        fault: its name in ``FAULTS``.
        read_back: what is wrong with the file's content, as ``lk.export`` finds before anything runs it; or "".
        in_llama_cpp: what shows when llama.cpp runs the file; "" where its predictions stay within the bounds.
    """

    fault: str
    read_back: str
    in_llama_cpp: str


def find_faults(
    run_or_model: Run | Model, exported: Exported, faults: Iterable[str] = tuple(FAULTS), positions: int = POSITIONS
) -> list[Finding]:
    """Plant faults in copies of an export's files, one at a time, and return what the proof says of each copy.

    The export stays as it is. Each fault takes some seconds.

    Args:
        run_or_model: what was exported.
        exported: with a whole model as GGUF, and for "adapter scale forgotten" with ``"gguf-adapter"``.
        faults: names in ``FAULTS``.
        positions: at how many the next token is compared in llama.cpp.

    Raises:
        LabkitError: an unknown fault, or the export has no file for it.
        MissingPackageError: xllamacpp is not installed.
    """
    subject, named = Subject.of(run_or_model, positions), list(faults)
    for fault in named:
        if fault not in FAULTS:
            raise unknown("fault", fault, FAULTS)
    with TemporaryDirectory() as scratch:
        return list(_found(subject, _files(exported, named), Path(scratch)))


def _files(exported: Exported, faults: list[str]) -> dict[str, tuple[Path, str]]:
    """Return for each fault the file that gets it, and of what kind that is, the smallest one that there is."""
    kinds = {exported.folder / f"gguf-{kind}" / file_of(kind): kind for kind in reversed(KINDS)}
    wholes = [(path, kind) for path, kind in kinds.items() if path.exists()]
    adapters = [(path, "f16") for path in [exported.folder / "gguf-adapter" / ADAPTER] if path.exists()]
    found = {fault: adapters if fault == SCALE else wholes for fault in faults}
    for fault, files in found.items():
        if not files:
            needed = "gguf-adapter" if fault == SCALE else "gguf-q8_0"
            raise LabkitError(f"The export has no file for {fault!r}.", f"Export {needed!r} as well.")
    return {fault: files[0] for fault, files in found.items()}


def _found(subject: Subject, files: dict[str, tuple[Path, str]], scratch: Path) -> Iterator[Finding]:
    base = scratch / "base.gguf"
    for fault, (path, kind) in files.items():
        bad = plant(fault, path, scratch / f"damaged-{path.name}")
        if fault == SCALE:
            write_gguf(subject.bare(), base, kind)
            read_back = _said(check_gguf_adapter, subject.model, bad)
            in_llama_cpp = _said(_run, subject.reference, kind, base, bad)
        else:
            read_back = _said(check_gguf, subject.model, bad, kind)
            in_llama_cpp = _said(_run, subject.reference, kind, bad)
        yield Finding(fault, read_back, in_llama_cpp)
        bad.unlink()


def _run(reference: Reference, kind: str, path: Path, adapter: Path | None = None) -> None:
    if beyond := beyond_bounds(replace(measure(reference, LlamaCpp(path, adapter)), kind=kind)):
        raise ExportError(f"{beyond}.", "")


def _said(check: Callable[..., object], *given: object) -> str:
    try:
        check(*given)
    except ExportError as problem:
        return problem.cause
    return ""
