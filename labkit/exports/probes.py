"""Texts and conversations on which exported models go wrong: hard to split, and hard to render."""

from __future__ import annotations

import random

# Spaces and digits are split by rules of their own; code, emoji and other scripts fall into bytes; text may hold
# what looks like a special token.
PIECES = (
    " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u2003", "\u200b", "\u3000",
    "the", " The", "don't", " we'll", "'S", "I'M", "naïve", "Straße", "e\u0301", "ﬁ", "İ", "ǅ",
    "0", "7", "42", "1234567890", " 3.14", "²", "½", "Ⅷ", "٣", "१२", "一二三", "1,000", "0x1F",
    "if x:\n\treturn [x**2]", "a_b", "camelCase", "</div>", "{{ x }}", "//", "\\n", "!=", "...", "—", "'", '"', "``",
    "привет", "中文字符", "日本語", "한국어", "עברית", "العربية", "हिन्दी", "ไทย", "ქართული", "\u202eabc",
    "🙂", "👩‍👩‍👧", "🇨🇭", "👍🏽", "❤️", "𝔘", "\U00020000", "\ufffd", "\u0000", "\u007f", "\ufeff",
    "<|im_end|>", "<|im_start|>user\n", "<|endoftext|>", "<|im_", "|>", "<s>", "</s>",
)  # fmt: skip

TEXTS = (
    "A nurse measures blood pressure, heart rate and temperature, and writes them down before the doctor arrives.",
    "The licence allows everyone to use, copy, modify and distribute the software, with or without changes.",
    "def mean(numbers):\n    return sum(numbers) / len(numbers)\n\nprint(mean([1, 2, 3]))\n",
    "Water boils at 100 degrees Celsius at sea level. On a mountain of 3,000 metres it boils at about 90 degrees.",
    "Once upon a time, a small boat left the harbour of an old town. The wind was cold, and nobody sang.",
    "The capital of France is Paris. The capital of Japan is Tokyo. The capital of Canada is Ottawa.",
    # Those above are compared in every proof, those below where more positions are asked for.
    "Dear Ms Okafor,\n\nThank you for your letter of 3 May. We have looked at the bill again, and you are right: the "
    "second visit was counted twice. We will send 48.50 euros back to your account within ten days.\n\nKind regards",
    "To make bread, mix 500 g of flour with 350 ml of warm water, a little yeast and two teaspoons of salt. Knead the "
    "dough for ten minutes, cover it, and let it rest until it has doubled. Bake it at 230 degrees for half an hour.",
    "SELECT name, COUNT(*) AS visits FROM patients JOIN visits USING (patient_id)\nWHERE visits.year >= 2020\n"
    "GROUP BY name HAVING COUNT(*) > 3 ORDER BY visits DESC;\n",
    "The tenant shall pay the rent on the first day of each month. If a payment is late by more than fourteen days, "
    "the landlord may end this agreement in writing, unless the tenant has paid in the meantime.",
    "Why is the sky blue? Sunlight holds all colours. Molecules of air scatter blue light, whose waves are short, "
    "about five times as strongly as red light, so that blue reaches the eye from every side. In the evening the light "
    "has a longer way through the air, most of the blue is gone, and what is left looks orange and red.",
    "| item | price | in stock |\n|---|---|---|\n| lamp | 19.90 | yes |\n| chair | 85.00 | no |\n| table | 240.00 | "
    "yes |\n\nThe table costs almost three times as much as the chair, and twelve times as much as the lamp.",
    "- Did you hear the news? - Which news? - The old bridge is closed again. They found cracks under the road, and "
    "nobody knows how long the repair will take. - So we have to go round by the station every morning? - It seems so.",
)

CONVERSATIONS = (
    [("user", "Hi")],
    [("system", "You answer in one word."), ("user", "What is the capital of France?")],
    [("user", "What is 2 + 2?"), ("assistant", "4."), ("user", "And 3 + 3? Explain it to a child.")],
    [("user", "  Naïve? 🙂\n\n```python\nprint('{{ x }}')\n```  ")],
)


def hard_texts(count: int = 1000) -> list[str]:
    """Return texts that are hard to split into tokens: the pieces alone, then up to eight of them in a random order.

    Every fourth text also has a random character of Unicode.
    """
    dice, texts = random.Random(0), list(PIECES)
    while len(texts) < count:
        parts = dice.choices(PIECES, k=dice.randint(2, 8))
        if len(texts) % 4 == 0:
            parts.append(chr(dice.choice([dice.randint(0x80, 0xD7FF), dice.randint(0xE000, 0x2FFFF)])))
        texts.append("".join(parts))
    return texts[:count]


def conversations() -> list[list[dict[str, str]]]:
    """Return conversations whose last turn is the user's, as chat templates read them."""
    return [[{"role": role, "content": text} for role, text in turns] for turns in CONVERSATIONS]
