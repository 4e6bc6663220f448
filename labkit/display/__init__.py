"""Figures and widgets."""

from labkit.extras import unusable

try:
    import matplotlib  # noqa: F401  every module here draws with it
except ImportError as problem:
    raise unusable("matplotlib", problem) from problem
