"""A folder of text files: labels by subfolder, or plain text to continue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from labkit.errors import LabkitError
from labkit.tasks.encodings import decode
from labkit.tasks.faults import Faults
from labkit.tasks.passages import OPENING, PASSAGE, cut_opening, passages
from labkit.tasks.reading import SUFFIXES, unreadable
from labkit.tasks.roles import roles_of
from labkit.tasks.row import listed

TEXTS = (".txt", ".md")


def split_folders(folder: Path, notes: list[str]) -> dict[str, Path]:
    """Return the training and test set in a folder, if it has both: files or subfolders with names such as train.

    Raises:
        LabkitError: the folder has one of them twice.
    """
    paths = _visible(folder)
    named = [path for path in paths if path.is_dir() or path.suffix.lower() in SUFFIXES]
    roles = roles_of(named, lambda path: path.name if path.is_dir() else path.stem)
    if not {"train"} < set(roles):
        return {}
    if others := [path.name for path in paths if path not in roles.values()]:
        notes.append(f"files that were not read, {len(others):,}: {listed(others)}")
    return roles


def folder_rows(folder: Path, notes: list[str]) -> tuple[Iterator[tuple[int, dict]], Faults]:
    """Return the examples in the text files of a folder, and their faults; each is numbered by its file.

    Files in subfolders are texts, and the subfolder's name is their label. Files in the folder itself are cut into
    passages; the model reads the first words of each and learns to continue.

    Raises:
        LabkitError: it holds no text files.
    """
    labelled = [path for sub in _visible(folder) if sub.is_dir() for path in _visible(sub)]
    loose = [path for path in _visible(folder) if path.is_file()]
    given = labelled if any(path.suffix.lower() in TEXTS for path in labelled) else loose
    files = [path for path in given if path.suffix.lower() in TEXTS and path.is_file()]
    if not files:
        tables = [path.name for path in loose if path.suffix.lower() in SUFFIXES]
        raise LabkitError(
            f"The folder {folder} holds no text files ({' or '.join(TEXTS)}).",
            f"Pass one of its files: {listed(tables)}." if tables else "Save the texts as .txt, in UTF-8.",
        )
    read = set(files)
    if others := [path.name for path in labelled + loose if path not in read]:
        notes.append(f"files that were not read, {len(others):,}: {listed(others)}")
    places = [path.relative_to(folder).as_posix() for path in files]
    faults = Faults(folder.name, lambda number: places[number - 1])
    return (_labelled(files, faults, notes) if given is labelled else _passages(files, faults, notes)), faults


def _labelled(files: list[Path], faults: Faults, notes: list[str]) -> Iterator[tuple[int, dict]]:
    for number, path in enumerate(files, 1):
        if (text := _text(path, number, faults, notes)) is not None:
            yield number, {"text": text.strip(), "label": path.parent.name}


def _passages(files: list[Path], faults: Faults, notes: list[str]) -> Iterator[tuple[int, dict]]:
    count = short = 0
    for number, path in enumerate(files, 1):
        for passage in passages(_text(path, number, faults, notes) or ""):
            opening, continuation = cut_opening(passage)
            if continuation.strip():
                count += 1
                yield number, {"opening": opening, "continuation": continuation}
            else:
                short += 1
    notes.append(
        f"{len(files):,} files were cut into {count:,} passages of at most {PASSAGE} characters; a model reads the "
        f"first {OPENING} words of each and learns the rest, so {short:,} that end sooner were left out. Passages of "
        "one file may stand in both sets"
    )


def _text(path: Path, number: int, faults: Faults, notes: list[str]) -> str | None:
    own = Faults(path.name)
    said: list[str] = []
    try:
        text = decode(path.read_bytes(), own, said)
    except OSError as problem:
        raise unreadable(path, problem) from problem
    except LabkitError as problem:
        faults.add(number, problem.cause, problem.remedy)
        return None
    notes += [f"{path.name}: {note}" for note in said]
    for what in own.listed():
        faults.add(number, what, "Save the file again as UTF-8.")
    return None if own else text


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__")))
