"""General English, which no task of the course contains: the yardstick for forgetting.

The text is the country histories of the CIA World Factbook. It is edited modern prose on a subject far
from medicine and law, in the public domain, in 256 separate pieces, and it comes in a pinned archive, so
everybody measures on the same words. The model has surely seen such text in its pretraining, which is
the point: forgetting is the loss of something once known.
"""

from __future__ import annotations

import html
import json
import random
import re
import zipfile

from labkit.assets.fetch import ensure
from labkit.assets.manifest import get_asset
from labkit.errors import require_count, unknown
from labkit.storage.cache import course_data


def general_english(count: int = 32, *, split: str = "test", words: int = 70) -> list[str]:
    """Return the openings of ``count`` country histories, at most ``words`` words each.

    Args:
        count: how many texts, 1 to 126.
        split: ``"test"`` to measure on, or ``"replay"`` to train on; no country is in both.
        words: where each text is cut.
    """
    words = require_count("words", words)
    asset = get_asset("factbook")
    texts = []
    with zipfile.ZipFile(ensure("factbook") / asset.wheel) as bundle:
        for name in sorted(n for n in bundle.namelist() if n.endswith(".json")):
            entry = json.loads(bundle.read(name)).get("Introduction", {}).get("Background", {}).get("text", "")
            clean = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", entry)).split())
            if len(clean.split()) >= 60:
                texts.append(" ".join(clean.split()[:words]))
    random.Random("factbook").shuffle(texts)
    half = len(texts) // 2
    halves = {"test": texts[:half], "replay": texts[half:]}
    remedy = f'Ask for 1 to {half} texts of split="test" or split="replay".'
    if not isinstance(split, str) or split not in halves:
        raise unknown("split of general English", split, halves, f" {remedy}")
    return halves[split][: require_count("count", count, high=half, remedy=remedy)]


def general_knowledge() -> list[dict]:
    """Return the 60 questions of ``data/general_knowledge.jsonl``, with four choices each."""
    probe = course_data() / "general_knowledge.jsonl"
    return [json.loads(line) for line in probe.read_text(encoding="utf-8").splitlines()]
