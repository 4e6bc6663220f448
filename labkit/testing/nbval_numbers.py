"""A pytest plugin: nbval compares the numbers of a cell that says ``# ±2%`` within that tolerance.

nbval compares stored outputs digit by digit or not at all. With this plugin, which pytest finds once labkit is
installed, a cell with a tolerance passes where all text is equal and each number is near enough. Any other cell is
compared as before, but for the words of a picture, which are skipped as the picture is. See docs/numbers.md.
"""

from __future__ import annotations

import copy
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

import pytest

from labkit.testing.numbers import differences
from labkit.testing.tolerance import Tolerance, tolerance_of

Output = dict[str, Any]
WRAPPED = pytest.StashKey[Callable[..., bool]]()  # nbval's own comparison, where this session has wrapped it


def pytest_configure(config: pytest.Config) -> None:
    """Have nbval compare numbers within the tolerance that a cell names."""
    if config.pluginmanager.hasplugin("nbval"):
        from nbval.plugin import IPyNbCell

        if config.option.nbval or config.option.nbval_lax:
            os.environ["LABKIT_UNATTENDED"] = "1"  # lk.guess asks nobody; kernels inherit it
        config.stash[WRAPPED] = IPyNbCell.compare_outputs
        IPyNbCell.compare_outputs = within_tolerance(IPyNbCell.compare_outputs)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nbval as it was."""
    if WRAPPED in config.stash:
        from nbval.plugin import IPyNbCell

        IPyNbCell.compare_outputs = config.stash[WRAPPED]


def within_tolerance(compare: Callable[..., bool]) -> Callable[..., bool]:
    """Wrap nbval's comparison of new and stored outputs so that it respects the cell's tolerance."""

    @wraps(compare)
    def compare_outputs(cell: Any, test: Sequence[Output], ref: Sequence[Output], *rest: Any, **named: Any) -> bool:
        test, ref = without_words(test), without_words(ref)
        try:
            tolerance = tolerance_of(cell.cell.source)
        except ValueError as problem:
            cell.comparison_traceback = [str(problem)]
            return False
        if tolerance is None:
            return compare(cell, test, ref, *rest, **named)
        near, far = replace_near(test, ref, tolerance, cell.sanitize)
        if compare(cell, near, ref, *rest, **named):
            return True
        cell.comparison_traceback = [*far, "", *cell.comparison_traceback]
        return False

    return compare_outputs


def without_words(outputs: Sequence[Output]) -> list[Output]:
    """Return outputs without what their pictures show in words: it varies as the pictures do, which nbval skips."""
    kept = copy.deepcopy(list(outputs))
    for output in kept:
        if "image/png" in output.get("data", {}):
            output["data"].pop("text/plain", None)
    return kept


def replace_near(
    test: Sequence[Output], ref: Sequence[Output], tolerance: Tolerance, sanitize: Callable[[str], str]
) -> tuple[list[Output], list[str]]:
    """Return the new outputs, each text that is near the stored one replaced by it; and what is wrong with the others.

    Args:
        test: the new outputs.
        ref: the stored outputs.
        tolerance: the cell's.
        sanitize: what nbval does to a text before it compares it.
    """
    near = copy.deepcopy(list(test))
    stored = defaultdict(list)
    for _, kind, text in texts_of(ref):
        stored[kind].append(text)
    far: list[str] = []
    seen: dict[str, int] = defaultdict(int)
    for place, kind, text in texts_of(near):
        index, seen[kind] = seen[kind], seen[kind] + 1
        if index < len(stored[kind]):
            before = stored[kind][index]
            found = differences(sanitize(before), sanitize(text), tolerance)
            if found == []:
                place[kind if kind in place else "text"] = before
            elif found:
                far += [f"{kind}, {each}" for each in found]
    return near, far


def texts_of(outputs: Sequence[Output]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Yield the dictionary that holds a text of the outputs, its kind (a stream's name or MIME type), and the text."""
    for output in outputs:
        if output["output_type"] == "stream":
            yield output, output["name"], output["text"]
        for kind, text in output.get("data", {}).items():
            if kind.startswith("text/") and isinstance(text, str):
                yield output["data"], kind, text
