"""A data set by its name on the hub."""

from __future__ import annotations

from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetNotFoundError

from labkit.errors import LabkitError
from labkit.storage.cache import offline

CHECK = "Check the path, which starts from the notebook's folder"


def from_hub(name: str) -> DatasetDict:
    """Return the parts of a data set on the hub.

    ``datasets`` runs no code that comes with a data set, since its version 4.

    Raises:
        LabkitError: it does not exist, can't be reached or read, or has several configurations to choose from.
    """
    missing = f"{name} is not a file or folder here"
    if offline():
        raise LabkitError(
            f"{missing}; the hub is forbidden by LABKIT_OFFLINE or HF_HUB_OFFLINE.", f"{CHECK}, or unset the variable."
        )
    try:
        return load_dataset(name)
    except DatasetNotFoundError as problem:
        raise LabkitError(
            f"{missing}, and no data set on the hub that is open to you.",
            "Check its name, or for one that asks for consent run `hf auth login`.",
        ) from problem
    except FileNotFoundError as problem:  # it exists, but without data files
        raise LabkitError(f"{name}, on the hub, holds no data: {_begin(problem)}", "Choose another.") from problem
    except OSError as problem:
        raise LabkitError(
            f"{missing}, and the hub can't be reached: {_begin(problem)}", f"{CHECK}, or the network."
        ) from problem
    except Exception as problem:  # several configurations, a script instead of data, parts with other columns
        raise LabkitError(
            f"{name} can't be loaded as it is: {_begin(problem.__cause__ or problem)}",
            f"Choose a part of it: load_task(datasets.load_dataset({name!r}, 'THE PART')).",
        ) from problem


def _begin(problem: BaseException) -> str:
    return " ".join(str(problem).split())[:300]
