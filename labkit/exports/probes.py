"""What exports are asked: texts to tokenize, conversations to render, and prompts whose logits are compared."""

from __future__ import annotations

from contextlib import suppress

from transformers import PreTrainedTokenizerBase

from labkit.conversations.templates import chat_ids
from labkit.errors import LabkitError

PIECES = (
    *("a", " a", "Hello", "hello, world!", "The sky is", "I'm sure they'll see it's ours.", "HELLO", "naïve café"),
    *(
        "Größe",
        "Привет",
        "你好，世界",
        "こんにちは",
        "안녕",
        "שלום",
        "مرحبا",
        "e\u0301",
        "\u00e9",
        "🙂",
        "👩\u200d👧",
        "²½①",
        "ﬁ",
    ),
    *("0", "12", "1234567", "3.14", "1,000,000", "2025-01-16", "x1", "a1b2", "100%", "€5", "§ 12 (3)"),
    *(
        "\n",
        "\n\n",
        "\t",
        "  ",
        "    if x:\n        return 'y'\n",
        "\r\n",
        "\u00a0",
        "\u200b",
        "...",
        "--",
        "!?",
        "'s",
        '"q"',
    ),
    *("<b>", "http://a.example/b?c=d&e", "snake_case", "camelCase", "C:\\temp", "{'a': [1, 2]}", "#tag", "@you"),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "[INST]", "assistant", "system\n"),
)
# Each piece alone, and before and behind some others, in all ways in which tokenizers join.
TEXTS = (
    "",
    *PIECES,
    *(a + b for a in PIECES[::7] for b in PIECES),
    *(f"{a} {b}" for a in PIECES[3::17] for b in PIECES),
)

QUESTION = {"role": "user", "content": "Which department treats a broken arm?\nAnswer in one word."}
CONVERSATIONS: tuple[list[dict[str, str]], ...] = (
    [QUESTION],
    [{"role": "system", "content": "You are brief."}, QUESTION],
    [QUESTION, {"role": "assistant", "content": "Surgery."}, {"role": "user", "content": " And a rash?  "}],
    [QUESTION, {"role": "assistant", "content": "Surgery."}],
)
PROMPTS = (
    "Finding: A fracture of the radius that does not heal.\nDepartment:",
    "def mean(numbers):\n    return sum(numbers) / ",
    "The capital of France is Paris, that of Italy is Rome, and that of Spain is",
)
LONGEST = 48  # tokens of a prompt: enough for positions to matter


def prompts(tokenizer: PreTrainedTokenizerBase, rows: int) -> list[list[int]]:
    """Return the tokens of some prompts, the first of a conversation where the tokenizer has a template.

    Args:
        tokenizer: the model's.
        rows: how many tokens the model knows.
    """
    texts = [tokenizer(text, verbose=False)["input_ids"] for text in PROMPTS]
    with suppress(LabkitError):  # no template, or one that refuses this conversation: the texts remain
        texts.insert(0, chat_ids(tokenizer, CONVERSATIONS[0], reply=True))
    return [[token for token in ids if token < rows][:LONGEST] for ids in texts]
