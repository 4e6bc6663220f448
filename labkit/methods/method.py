"""What a fine-tuning method is, and the registry of all methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from labkit.errors import LabkitError, require_number, set_checked, unknown
from labkit.models.model import Model


@dataclass(frozen=True)
class Method(ABC):
    """A way to fine-tune: which parameters are trained, and how they are stored.

    Attributes:
        learning_rate: the rate that ``finetune`` uses where none is given.
    """

    name: ClassVar[str]
    learning_rate: float

    def __post_init__(self) -> None:
        set_checked(self, learning_rate=require_number("learning_rate", self.learning_rate, above=0))

    @abstractmethod
    def apply(self, model: Model, *, inplace: bool = False) -> Model:
        """Return a model whose trainable parameters are those of this method.

        ``model`` itself stays as it was, unless ``inplace`` is set.
        """

    @abstractmethod
    def save(self, model: Model, folder: Path) -> None:
        """Write what was trained into ``folder``, as safetensors and JSON."""

    @abstractmethod
    def load(self, base: Model, folder: Path) -> Model:
        """Return the tuned model made of ``base`` and what ``save`` wrote."""

    def to_dict(self) -> dict:
        """Return the settings in a form that JSON can hold, with the method's name."""
        return {"name": self.name, **asdict(self)}


METHODS: dict[str, type[Method]] = {}


def register(cls: type[Method]) -> type[Method]:
    """Add a method to the registry under its ``name``; used as a class decorator."""
    if cls.name in METHODS:
        raise LabkitError(f"A method called {cls.name!r} is registered already.", "Choose another name.")
    METHODS[cls.name] = cls
    return cls


def get_method(method: str | Method | dict) -> Method:
    """Return a method from its name (with defaults), its settings as ``to_dict`` gave them, or itself."""
    if isinstance(method, Method):
        return method
    settings = dict(method) if isinstance(method, dict) else {"name": method}
    name = settings.pop("name")
    if name not in METHODS:
        raise unknown("method", str(name), METHODS)
    return METHODS[name](**settings)
