"""Whether a model or a function is the very one of an earlier run."""

from __future__ import annotations

import hashlib
import inspect
from contextlib import suppress
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

from labkit.errors import LabkitError, shown
from labkit.models.fingerprint import fingerprint
from labkit.models.model import Model
from labkit.runs.run import describe
from labkit.training.callbacks import Every

MEASURES = "lk.Every"  # stands for a callback that only adds to the history


def weights_of(model: Model) -> dict[str, Any]:
    """Return what tells a model from any other, to the last bit of its weights, but for its name."""
    head = [fingerprint(model.head, exact=True), *model.labels] if model.head is not None else None
    return describe(model) | {"name": "", "weights": fingerprint(model.module, exact=True), "head": head}


def code_of(function: Any, kind: str, seen: tuple[int, ...] = ()) -> list[Any]:
    """Return the name and the source of a function or a callable object, and what it holds, in types that JSON has.

    An object holds its attributes, and a function the variables of the one that it was defined in. Of these, plain
    values, functions and models count. What else it holds doesn't, nor do global variables and functions it calls.

    Args:
        function: a callback or a reward.
        kind: which of them, for the error.
        seen: the ids of functions that hold this one.

    Raises:
        LabkitError: its source cannot be read.
    """
    code = function if inspect.isroutine(function) else type(function).__call__
    try:
        source = hashlib.sha256(inspect.getsource(code).encode()).hexdigest()[:16]
    except (OSError, TypeError) as problem:  # typed into a plain Python prompt, or not written in Python
        raise LabkitError(
            f"keep= cannot tell whether the code of the {kind} {shown(function)} has changed: it has no source.",
            "Write it as a function in a notebook or a file, or leave keep out.",
        ) from problem
    found: list[Any] = [MEASURES if type(function) is Every else code.__qualname__, source]
    for name, value in sorted(_held(function).items()):
        if isinstance(value, BuiltinFunctionType | MethodDescriptorType):
            found.append([name, value.__qualname__])
        elif inspect.isroutine(value) and id(value) not in seen:  # a function may hold itself
            found.append([name, code_of(value, kind, (*seen, id(function)))])
        elif isinstance(value, bool | int | float | str):
            found.append([name, value])
        elif isinstance(value, Model):
            found.append([name, weights_of(value)])
    return found


def _held(function: Any) -> dict[str, Any]:
    """Return the attributes of an object, or of a method's object; or what a function has from the one around it."""
    holder = getattr(function, "__self__", None) if inspect.isroutine(function) else function
    held = dict(getattr(holder, "__dict__", {})) if not isinstance(holder, type) else {}
    cells = getattr(function, "__closure__", None) or ()
    for name, cell in zip(function.__code__.co_freevars if cells else (), cells, strict=True):
        with suppress(ValueError):  # not set yet
            held[name] = cell.cell_contents
    return held
