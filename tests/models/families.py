"""Tiny models with tokenizers of many families, trained on a few sentences."""

from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from labkit.models.model import Model

SENTENCES = [
    "The sky in the north is blue. Answer: yes",
    "Die Größe der Tür über dem Fluß ist schön: nein",
    "天空是蓝色的。 答案：是",
    "Rivers run into the sea 🙂🚀, and the sea is never full!\nAnswer: no",
    "Item tree stone cloud river glass\n\tAnswer: perhaps so  indeed",
    "Is it? It is a cat, and the cat sat on the mat (x = 10).",
] * 6
SPECIAL = ["<unk>", "<s>", "</s>"]


def _byte_level(trainer_of):
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.train_from_iterator(SENTENCES, trainer_of(initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return made


def _metaspace(trainer_of, scheme):
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme)
    made.train_from_iterator(SENTENCES, trainer_of())
    return made


def _legacy(trainer_of):
    """As Llama 2 does it: a normalizer that writes ▁ before every text, also before one that begins with a space."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.train_from_iterator(SENTENCES, trainer_of())
    made.pre_tokenizer = None
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return made


def _unigram():
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    made.train_from_iterator(SENTENCES, trainer)
    return made


def _word_piece():
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer, made.decoder = normalizers.BertNormalizer(lowercase=True), decoders.WordPiece()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator(SENTENCES, trainer)
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return made


def _bpe_trainer(**settings):
    return trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, show_progress=False, **settings)


def _in_template(made, template):
    made.post_processor = processors.TemplateProcessing(template, special_tokens=[("<s>", 1), ("</s>", 2)])
    return made


def llama_of(tokenizer, **sizes):
    torch.manual_seed(0)
    small = {
        **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"vocab_size": len(tokenizer), "max_position_embeddings": 512, "initializer_range": 0.2},
        **{"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id},
    }
    module = LlamaForCausalLM(LlamaConfig(**small | sizes)).eval()
    return Model("tiny", module, tokenizer, "causal", torch.float32)


@cache
def families():
    """Return a model for each family of tokenizers; tests must not change them."""
    plain = {
        "byte-level": lambda: _byte_level(_bpe_trainer),
        "byte-level, <s> $A": lambda: _in_template(_byte_level(_bpe_trainer), "<s> $A"),
        "byte-level, $A </s>": lambda: _in_template(_byte_level(_bpe_trainer), "$A </s>"),
        "metaspace first": lambda: _metaspace(_bpe_trainer, "first"),
        "metaspace always, <s> $A </s>": lambda: _in_template(_metaspace(_bpe_trainer, "always"), "<s> $A </s>"),
        "metaspace never": lambda: _metaspace(_bpe_trainer, "never"),
        "legacy, <s> $A": lambda: _in_template(_legacy(_bpe_trainer), "<s> $A"),
        "unigram, $A </s>": lambda: _in_template(_unigram(), "$A </s>"),
        "word pieces": _word_piece,
    }
    names = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    made = {name: PreTrainedTokenizerFast(tokenizer_object=make(), **names) for name, make in plain.items()}
    switches = {"add_bos_token": True, "add_eos_token": True}
    both = PreTrainedTokenizerFast(tokenizer_object=_metaspace(_bpe_trainer, "first"), **names, **switches)
    return {name: llama_of(tokenizer) for name, tokenizer in (made | {"add_bos, add_eos": both}).items()}
