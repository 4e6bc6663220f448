"""Several fine-tuned specialists in the memory of one model, chosen for each row of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from labkit.errors import LabkitError, require_count, require_seed, shown, unknown
from labkit.generation.batched import batches_of, texts_of
from labkit.generation.casts import Casts
from labkit.generation.mixed import MixedReplies
from labkit.generation.prompts import Prompts, fitted
from labkit.generation.replies import Reply
from labkit.generation.sampling import Sampling, random_numbers
from labkit.methods.selection import NONE, with_selection
from labkit.models.decoding import pads
from labkit.models.model import Model
from labkit.process import alone
from labkit.runs.adapters import Source, factors_on, require_base


class Specialists:
    """Several LoRAs on one base model, whose weights are in memory once.

    A batch may mix them: y = Wx + Σᵢ mᵢ·sᵢ·BᵢAᵢx, where mᵢ says which rows take adapter i. In float32, each row's
    greedy reply is that of its tuned model alone. Switching copies and merges nothing.

    Args:
        base: the causal model that all of them were trained on. It stays as it was.
        adapters: of each name, a run, its model, a folder that ``run.save`` or PEFT wrote, or the name of a saved run.

    Attributes:
        base: the model given.
        model: the network that holds all adapters. It computes as ``base`` does, except inside ``using``.
        names: what may be chosen: the base by its name, then the adapters by theirs.

    Raises:
        LabkitError: an adapter is no plain LoRA (PiSSA is one, DoRA isn't), or belongs to another base.
    """

    def __init__(self, base: Model, adapters: Mapping[str, Source]):
        require_base(base)
        if base.kind != "causal":
            raise LabkitError(
                f"{base.name} is an encoder: it cannot write.", "Use a causal model such as smollm2-135m."
            )
        if not isinstance(adapters, Mapping) or not adapters:
            raise LabkitError(f"Adapters are needed by name, not {shown(adapters)}.", 'Pass {"hospital": run, …}.')
        for name in adapters:
            if not isinstance(name, str) or not _suits(name) or name == base.name:
                raise LabkitError(f"{shown(name)} cannot name an adapter.", "Use a word other than the base's name.")
        self.base, self.names = base, (base.name, *adapters)
        self.model, self._selection = with_selection(base, [factors_on(base, a, name) for name, a in adapters.items()])

    @contextmanager
    def using(self, names: str | Sequence[str]) -> Iterator[Model]:
        """Give ``model``, which computes as a specialist does inside the block; with several names, row by row.

        ``lk.evaluate`` and others take it with one name. Other threads wait until the block ends.
        """
        chosen = self._numbers([names] if isinstance(names, str) else names)
        if not chosen:
            raise LabkitError("The batch is empty: no name was given.", f"Choose among {', '.join(self.names)}.")
        with alone(), self._selection.choosing(chosen, self.model.device):
            yield self.model

    def generate(
        self,
        prompts: Prompts,
        names: str | Sequence[str],
        max_new_tokens: int = 20,
        *,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        batch_size: int = 16,
        seed: int = 0,
    ) -> list[Reply]:
        """Continue each prompt by its own specialist, mixed in batches, and return the replies in the prompts' order.

        Args:
            prompts, max_new_tokens, sampling, stop, batch_size: as for ``lk.generate``.
            names: of each prompt, who continues it; or one name for all.
            seed: of the random numbers; each specialist draws what ``lk.generate`` draws for its prompts alone.

        Raises:
            LabkitError: as for ``lk.generate``, or there is no such name, or not one for each prompt.
        """
        size = require_count("batch_size", batch_size)
        rows, chosen, count, numbers = self._asked(prompts, names, max_new_tokens, sampling, seed)
        made: dict[int, Reply] = {}
        casts, ends = Casts(self.model), texts_of(stop)
        for part in batches_of(rows, size, pads(self.model)):
            own = None if numbers is None else numbers[part]
            mine = [chosen[i] for i in part], [rows[i] for i in part]
            replies = MixedReplies(self.model, self._selection, casts, *mine, count, sampling, own, ends)
            while replies.step():
                pass
            made.update(zip(part, replies.finished(), strict=True))
        return [made[i] for i in range(len(rows))]

    def start(
        self,
        prompts: Prompts,
        names: str | Sequence[str],
        max_new_tokens: int = 20,
        *,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> MixedReplies:
        """Return the replies of one batch before their first token: ``step()`` adds one to each.

        Between two steps, anything else may be asked of the specialists. Arguments and errors are those of
        ``generate``; besides, the batch must not be empty.
        """
        rows, chosen, count, numbers = self._asked(prompts, names, max_new_tokens, sampling, seed)
        if not rows:
            raise LabkitError("The batch is empty: there is no prompt.", "Pass at least one.")
        if not pads(self.model) and len({*map(len, rows)}) > 1:
            raise LabkitError(f"{self.base.name} reads prompts of one length only together.", "Start one by one.")
        others = rows, count, sampling, numbers, texts_of(stop)
        return MixedReplies(self.model, self._selection, Casts(self.model), chosen, *others)

    def _asked(
        self, prompts: Prompts, names: str | Sequence[str], max_new_tokens: int, sampling: Sampling | None, seed: int
    ) -> tuple[list[list[int]], list[int], int, torch.Tensor | None]:
        count, seed = require_count("max_new_tokens", max_new_tokens), require_seed(seed)
        rows = fitted(self.model, prompts, count)
        chosen = self._numbers([names] * len(rows) if isinstance(names, str) else names)
        if len(chosen) != len(rows):
            raise LabkitError(f"{len(rows)} prompts have {len(chosen)} names.", "Give each prompt one, or one for all.")
        if sampling is None:
            return rows, chosen, count, None
        numbers = torch.empty(len(rows), count, dtype=torch.float64)
        for kind in {*chosen}:
            own = [row for row, number in enumerate(chosen) if number == kind]
            numbers[own] = random_numbers([rows[row] for row in own], count, seed)
        return rows, chosen, count, numbers

    def _numbers(self, names: Sequence[str]) -> list[int]:
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise LabkitError(f"A name or a list of names is needed, not {shown(names)}.", f"Known: {self.names}.")
        for name in names:
            if name not in self.names:
                raise unknown("specialist", name, self.names)
        return [self.names.index(name) + NONE for name in names]

    def __repr__(self) -> str:
        return f"Specialists({', '.join(self.names)})"


def _suits(name: str) -> bool:
    """Return whether a name can be read: it is none of white space, line breaks or characters without a look."""
    return bool(name) and name.isprintable() and name == name.strip()
