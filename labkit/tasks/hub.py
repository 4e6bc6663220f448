"""A data set by its name on the hub."""

from __future__ import annotations

from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetNotFoundError

from labkit.assets.cache import offline
from labkit.errors import LabkitError


def from_hub(name: str) -> DatasetDict:
    """Return the parts of a data set on the hub.

    ``datasets`` runs no code that comes with a data set, since its version 4.

    Raises:
        LabkitError: it isn't there, or can't be reached, or one must be chosen of several.
    """
    if offline():
        raise LabkitError(
            f"{name} is no file or folder here; the hub is forbidden by LABKIT_OFFLINE or HF_HUB_OFFLINE.",
            "Check the path, which starts from the notebook's folder, or unset the variable.",
        )
    try:
        return load_dataset(name)
    except DatasetNotFoundError as problem:
        raise LabkitError(
            f"{name} is no file or folder here, and no data set on the hub that is open to you.",
            "Check its name, or for one that asks for consent run `hf auth login`.",
        ) from problem
    except OSError as problem:
        raise LabkitError(
            f"{name} is no file or folder here, and the hub can't be reached: {str(problem).splitlines()[0][:200]}",
            "Check the path, which starts from the notebook's folder, or the network.",
        ) from problem
    except ValueError as problem:
        raise LabkitError(
            f"{name} can't be loaded as it is: {' '.join(str(problem).split())[:300]}",
            f"Choose a part of it: load_task(datasets.load_dataset({name!r}, 'THE PART')).",
        ) from problem
