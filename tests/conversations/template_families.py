"""Chat templates of real model families, as TRL packages them, each with a small tokenizer of our own making.

No vocabulary of a real model is needed: what a template does depends on the family's special tokens. Those are here,
with the roles that the family gives them (which begins a text, which ends one, which pads).
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny import tiny_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "You are a helpful assistant. Answer in one word.",
    "What colour is the sky? The sky is blue, and the grass is green.",
    "Which animal barks? A dog barks; a cat doesn't.\nSay it again, please: a dog.",
    "Thanks! You're welcome. Two and two make four, three and three make six.",
]


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        name: the file of the template in TRL, without its ending.
        ends: the tokens that end the assistant's turn.
        bos, eos, pad: special tokens, as the family's tokenizer has them; None where it has none.
        adds_bos: whether the tokenizer itself puts ``bos`` before a text.
        others: the further special tokens that the template writes.
        words: tokens that are added but not special: they stay when special ones are skipped.
        system: whether the template takes a system message.
        blocks: whether the template reads contents as lists of blocks, not as texts.
    """

    name: str
    ends: tuple[str, ...]
    bos: str | None
    eos: str
    pad: str | None
    adds_bos: bool = False
    others: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    system: bool = True
    blocks: bool = False

    @property
    def template(self) -> str:
        """The template as the family's models have it."""
        return _text(self.name)

    @property
    def training(self) -> str:
        """TRL's variant of the template, which marks what the assistant writes with {% generation %}."""
        return _text(f"{self.name}_training")

    def tokenizer(self, *, training=False):
        """A new tokenizer with one of both templates."""
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(_trained(self)),
            **{f"{name}_token": token for name in ("bos", "eos", "pad") if (token := getattr(self, name))},
            additional_special_tokens=sorted({*self.ends, *self.others}),
        )
        tokenizer.chat_template = self.training if training else self.template
        return tokenizer

    def model(self, *, training=False, kind="llama", **sizes):
        """A tiny model with random weights that knows the tokenizer's tokens."""
        tokenizer = self.tokenizer(training=training)
        ids = {f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in ("bos", "eos", "pad")}
        return tiny_model(kind, tokenizer, vocab_size=len(tokenizer), **ids | sizes)


def _text(name):
    trl = find_spec("trl")
    if trl is None:
        pytest.skip("trl is not installed")
    return (Path(trl.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


@cache
def _trained(family):
    """The tokenizers library's tokenizer as JSON: bytes as letters, a few merges, and the special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    named = [token for token in (family.bos, family.eos, family.pad) if token]
    tokenizer.add_special_tokens(list(dict.fromkeys([*named, *family.ends, *family.others])))
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in family.words])
    if family.adds_bos:
        ids = [(family.bos, tokenizer.token_to_id(family.bos))]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{family.bos} $A", special_tokens=ids)
    return tokenizer.to_str()


_QWEN = {"bos": None, "eos": "<|im_end|>", "pad": "<|endoftext|>", "others": ("<|im_start|>",)}
_THINK = ("<think>", "</think>")
_GEMMA = {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "adds_bos": True, "others": ("<start_of_turn>",)}
FAMILIES = {
    family.name: family
    for family in (
        Family(
            "llama3",
            ("<|eot_id|>",),
            "<|begin_of_text|>",
            "<|eot_id|>",
            None,
            adds_bos=True,
            others=("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"),
        ),
        Family("qwen2_5", ("<|im_end|>",), **_QWEN),
        Family("qwen3", ("<|im_end|>",), **_QWEN, words=_THINK),
        Family("qwen3_instruct_2507", ("<|im_end|>",), **_QWEN, words=_THINK),
        Family("gemma", ("<end_of_turn>",), **_GEMMA, system=False),
        Family("gemma3", ("<end_of_turn>",), **_GEMMA),
        Family(
            "phi3",
            ("<|end|>",),
            "<s>",
            "<|endoftext|>",
            "<|endoftext|>",
            others=("<|system|>", "<|user|>", "<|assistant|>"),
        ),
        Family(
            "cohere",
            ("<|END_OF_TURN_TOKEN|>",),
            "<BOS_TOKEN>",
            "<|END_OF_TURN_TOKEN|>",
            "<PAD>",
            adds_bos=True,
            others=("<|START_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
        ),
        Family(
            "deepseekv3",
            ("<｜end▁of▁sentence｜>",),
            "<｜begin▁of▁sentence｜>",
            "<｜end▁of▁sentence｜>",
            "<｜end▁of▁sentence｜>",
            adds_bos=True,
            others=("<｜User｜>", "<｜Assistant｜>"),
            words=_THINK,
        ),
        Family(
            "glm4moe",
            ("<|user|>", "<|observation|>"),
            None,
            "<|endoftext|>",
            "<|endoftext|>",
            others=("[gMASK]", "<sop>", "<|system|>", "<|assistant|>"),
            words=_THINK,
        ),
        Family(
            "gptoss",
            ("<|return|>",),
            "<|startoftext|>",
            "<|return|>",
            "<|endoftext|>",
            others=("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>"),
        ),
        Family(
            "lfm2",
            ("<|im_end|>",),
            "<|startoftext|>",
            "<|im_end|>",
            "<|pad|>",
            adds_bos=True,
            others=("<|im_start|>",),
        ),
        Family(
            "smolvlm",
            ("<end_of_utterance>",),
            "<|im_start|>",
            "<end_of_utterance>",
            "<|im_end|>",
            others=("<image>",),
            blocks=True,
        ),
    )
}
