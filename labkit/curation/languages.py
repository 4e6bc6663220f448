"""Which language each text is in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from labkit.curation.words import require_texts
from labkit.extras import unusable

UNSURE = "und"  # undetermined, as in ISO 639
LETTERS = 200  # of each text are read: more change little and take longer
FEWEST = 20  # letters; shorter texts are often said to be in a wrong language
SURE = 0.9  # how probable a language must be


def find_languages(texts: Sequence[str]) -> list[str]:
    """Return the language of each text by its code in ISO 639, such as ``"en"``, or ``"und"`` where that is unsure.

    py3langid tells 139 languages apart by their sequences of bytes (Lui and Baldwin, 2012); its model comes with it.
    Of texts with fewer than 20 letters the language stays unsure.

    Raises:
        LabkitError: something is no text, or py3langid is missing.
    """
    require_texts(texts)
    reader = _reader() if texts else None
    return [_language(reader, text[:LETTERS]) for text in texts]


def find_others(languages: Sequence[str]) -> dict[int, str]:
    """Return the language of each row that is surely in another one than most rows are."""
    counts = Counter(language for language in languages if language != UNSURE)
    if not counts:
        return {}
    usual = max(counts, key=lambda language: counts[language])
    return {row: language for row, language in enumerate(languages) if language not in (usual, UNSURE)}


def _language(reader: Any, text: str) -> str:
    if sum(map(str.isalpha, text)) * (1 if text.isascii() else 2) < FEWEST:  # a letter of other scripts says more
        return UNSURE
    name, chance = reader.classify(text)
    return name if chance >= SURE and name != "zxx" else UNSURE  # zxx: no language


def _reader() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as problem:
        raise unusable("py3langid", problem) from problem
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
