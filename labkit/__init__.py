"""labkit: a small library to learn fine-tuning with. ``import labkit as lk``.

Names are imported when they are first used (PEP 562): torch and transformers take seconds, and ``labkit --help`` needs
neither. ``__init__.pyi`` says where each name is defined, for this module as for editors (Scientific Python's SPEC 1).
"""

from __future__ import annotations

import ast
import logging
import sys
from importlib import import_module
from pathlib import Path
from threading import RLock

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_NAMES = [(part.name, line.module) for line in _STUB.body if isinstance(line, ast.ImportFrom) for part in line.names]
_HOME_OF = dict(sorted(_NAMES))
__all__ = list(_HOME_OF)
# If one thread imports a package while another imports a module of it, each may wait for the other, and Python then
# gives one of them half a module. So only one thread imports at a time.
_LOCK = RLock()
# On a CPU with AVX512-BF16, bitsandbytes logs when it is imported, by PEFT too, that a faster kernel is missing. That
# doesn't help a learner.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> object:
    """Import a name, or a subpackage such as ``lk.evaluation``, when it is first used."""
    with _LOCK:
        if name in _HOME_OF:
            home = __import__(_HOME_OF[name], fromlist=[name])  # from home import name
            return globals().setdefault(name, getattr(home, name))
        module = f"{__name__}.{name}"
        try:
            if not name.startswith("_"):
                return import_module(module)
        except ModuleNotFoundError as problem:
            if problem.name != module:  # the module exists, but a library that it needs does not
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return list(__all__)
