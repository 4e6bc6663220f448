"""Optional packages, which only parts of labkit need: the extras of the course install them."""

from __future__ import annotations

from labkit.errors import LabkitError

# The extra in pyproject.toml that installs each package that notebooks need.
EXTRAS = {"bitsandbytes": "quant", "ipywidgets": "lab", "matplotlib": "lab", "peft": "peft"}
EXTRAS |= {"datasketch": "curation", "py3langid": "curation", "scikit-learn": "curation"}
# As what a package is imported, where that isn't its name.
MODULES = {"scikit-learn": "sklearn", "reasoning-gym": "reasoning_gym"}
# The extras for what only the tools of those who write notebooks need.
TOOLS = {"nbclient": "test", "nbformat": "test", "nbval": "test"}
# The extras for tasks that come from elsewhere, which no notebook needs.
SOURCES = {"reasoning-gym": "gym"}
# The extras for what a model needs that leaves the course.
SHIPPING = {"fastapi": "serve", "prometheus-client": "serve", "uvicorn": "serve", "xllamacpp": "llama"}


class MissingPackageError(LabkitError, ImportError):
    """A package that this part of labkit needs is missing, or can't be imported on this system."""


def unusable(package: str, problem: Exception, otherwise: str = "") -> MissingPackageError:
    """Return the error for a package that is missing, or can't be imported on this system.

    Args:
        package: its name.
        problem: what the import raised.
        otherwise: what to do without the package.
    """
    install = f"""Run `pip install ".[{(EXTRAS | TOOLS | SOURCES | SHIPPING)[package]}]"` in the course's folder"""
    remedy = f"{install}, or {otherwise}." if otherwise else f"{install}."
    return MissingPackageError(f"{package} cannot be used here: {str(problem).rstrip('.')}.", remedy)
