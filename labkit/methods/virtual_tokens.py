"""Virtual tokens: trained numbers that a frozen model reads as if they stood before every text."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from labkit.errors import LabkitError, require_count, set_checked, unknown
from labkit.methods.adapter import Adapter, AdapterMethod
from labkit.models.context import longest_of
from labkit.models.model import Model

INITS = ("words", "random")
WORDS = "Read the text and answer with the label that fits it best."
NAME = "virtual_tokens"  # of the module among the network's


class VirtualTokens(Adapter):
    """What all kinds share: the mask and the positions of a text with tokens before it.

    Args:
        count: how many tokens.
        context: how many tokens the network can read, these included.
    """

    of_layer = False

    def __init__(self, count: int, context: int):
        super().__init__()
        self.count, self.context = count, context
        self.plain = False  # whether the output should be a tuple

    def attach(self, module: PreTrainedModel) -> None:
        """Have ``module`` read the tokens from now on; copies of it will, too."""
        module.add_module(NAME, self)
        module.register_forward_pre_hook(self.before, with_kwargs=True)
        module.register_forward_hook(self.after, with_kwargs=True)

    @abstractmethod
    def begin(self, module: PreTrainedModel, inputs: dict) -> None:
        """Change the inputs of a text's first pass so that it reads the tokens."""

    def before(self, module: PreTrainedModel, args: tuple, inputs: dict) -> tuple[tuple, dict]:
        """Return the network's inputs, all by name, with the tokens before the text."""
        if self.disabled:
            return args, inputs
        if args:
            named = inspect.signature(module.forward).bind_partial(*args).arguments
            if twice := named.keys() & inputs.keys():
                raise TypeError(f"forward() got multiple values for {', '.join(sorted(twice))}")
            inputs = named | inputs
        # ``after`` finds what it changes by name; whoever asked for a tuple gets one from there.
        asked = inputs.get("return_dict")
        self.plain = not (module.config.return_dict if asked is None else asked)
        inputs = inputs | {"return_dict": True}
        ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
        if ids is None:
            raise LabkitError("A model with virtual tokens reads ids, and got none.", "Pass input_ids.")
        cache = inputs.get("past_key_values")
        length = ids.shape[1]
        if self.count + length > self.context:
            raise LabkitError(
                f"{self.count} virtual tokens and a text of {length} are more than the {self.context} that the model "
                "can read.",
                f"Shorten the text: max_length={self.context - self.count}, or use fewer virtual tokens.",
            )
        if mask is not None:
            inputs["attention_mask"] = torch.cat([mask.new_ones(len(mask), self.count), mask], dim=1)
        if inputs.get("position_ids") is not None:
            inputs["position_ids"] = inputs["position_ids"] + self.count
        if cache is None or cache.get_seq_length() == 0:  # in generation, later passes find the tokens in the cache
            self.begin(module, inputs)
        return (), inputs

    def after(self, module: PreTrainedModel, args: tuple, inputs: dict, output: ModelOutput) -> ModelOutput | tuple:
        """Return the network's output for the text alone, as a tuple where one was asked for."""
        return output.to_tuple() if self.plain and not self.disabled else output


@dataclass(frozen=True)
class VirtualTokenMethod(AdapterMethod):
    """A method that trains virtual tokens.

    Attributes:
        virtual_tokens: how many.
        init: ``"words"`` starts at what the model makes of ``text``, ``"random"`` at random numbers.
        text: repeated or cut to as many tokens.
    """

    learning_rate: float = 1e-1
    virtual_tokens: int = 16
    init: str = "words"
    text: str = WORDS

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, virtual_tokens=require_count("virtual_tokens", self.virtual_tokens, remedy="Try 16."))
        if self.init not in INITS:
            raise unknown("initialization of virtual tokens", str(self.init), INITS)
        if self.init == "words" and not (isinstance(self.text, str) and self.text.strip()):
            raise LabkitError(
                f"text is empty: there are no words to start from in {self.text!r}.",
                'Give some words, or set init="random".',
            )

    @abstractmethod
    def make(self, model: Model, context: int) -> VirtualTokens:
        """Return new tokens for ``model``."""

    def insert(self, tuned: Model) -> None:
        """Freeze ``tuned`` and have it read virtual tokens."""
        context = longest_of(tuned.module.config)
        if self.virtual_tokens >= context:
            raise LabkitError(
                f"{self.virtual_tokens} virtual tokens leave no room for a text: {tuned.name} can read {context}.",
                "Use fewer: 10 to 100 are usual.",
            )
        tokens = self.make(tuned, context).to(tuned.device)
        tuned.module.requires_grad_(False)
        tokens.attach(tuned.module)

    def peft_config(self, model: Model) -> dict:
        """Return the settings that PEFT has for all kinds of virtual tokens."""
        config = model.module.config
        return {
            "num_virtual_tokens": self.virtual_tokens,
            "num_transformer_submodules": 1,
            "num_attention_heads": config.num_attention_heads,
            "num_layers": config.num_hidden_layers,
            "token_dim": config.hidden_size,
        }

    def words(self, model: Model) -> torch.Tensor | None:
        """Return the ids of the text, shape (1, virtual_tokens); None where the start is random."""
        if self.init == "random" or model.device.type == "meta":
            return None
        ids = model.tokenizer(self.text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise LabkitError(
                f"The tokenizer of {model.name} leaves nothing of the text {self.text!r}.",
                'Choose other words, or set init="random".',
            )
        times = -(-self.virtual_tokens // len(ids))
        return torch.tensor([(ids * times)[: self.virtual_tokens]], device=model.device)
