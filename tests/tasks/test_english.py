import json
import re
import zipfile
from collections import Counter
from html.parser import HTMLParser

import pytest

import labkit as lk
from labkit.assets.fetch import ensure
from labkit.tasks.english import general_knowledge

BOTH = ("test", "replay")


@pytest.fixture(scope="module")
def backgrounds():
    """Every country history, without markup, as the standard library's HTML parser reads it."""
    texts = []
    with zipfile.ZipFile(next(ensure("factbook").glob("*.whl"))) as bundle:
        for name in bundle.namelist():
            if name.endswith(".json"):
                entry = json.loads(bundle.read(name)).get("Introduction", {}).get("Background", {})
                pieces = []
                parser = HTMLParser()
                parser.handle_data = pieces.append
                parser.feed(entry.get("text", ""))
                parser.close()
                texts.append("".join(" ".join(pieces).split()))  # without spaces: tags may or may not part words
    return texts


def test_the_splits_share_no_text():
    # At 20 words, so that two entries with the same history but other endings would be caught.
    with pytest.raises(lk.LabkitError) as caught:
        lk.general_english(1000)
    whole = int(re.search(r"from 1 to (\d+)", caught.value.cause)[1])
    test, replay = (lk.general_english(whole, split=split, words=20) for split in BOTH)
    assert not set(test) & set(replay)
    assert len(set(test)) == whole >= 120


def test_each_text_is_the_opening_of_a_history(backgrounds):
    for split in BOTH:
        for text in lk.general_english(120, split=split):
            compact = "".join(text.split())
            assert any(history.startswith(compact) for history in backgrounds)


def test_texts_hold_no_html():
    for split in BOTH:
        for text in lk.general_english(120, split=split):
            assert not any(mark in text for mark in ("<", ">", "&nbsp;", "&amp;", "&#", "\n", "  "))


def test_texts_are_cut_at_the_word_asked_for():
    long, short = lk.general_english(120), lk.general_english(120, words=10)
    assert all(60 <= len(text.split()) <= 70 for text in long)
    assert [" ".join(text.split()[:10]) for text in long] == short


def test_a_smaller_sample_is_the_start_of_a_larger_one():
    assert lk.general_english(5) == lk.general_english(120)[:5]


def test_what_there_is_not_is_refused():
    for wrong in [{"split": "train"}, {"count": 0}, {"count": 1000}, {"count": -1}]:
        with pytest.raises(lk.LabkitError) as caught:
            lk.general_english(**wrong)
        assert 'split="replay"' in caught.value.remedy


def test_there_are_sixty_different_questions_on_ten_topics():
    rows = general_knowledge()
    assert len({row["question"] for row in rows}) == len({row["id"] for row in rows}) == len(rows) == 60
    assert set(Counter(row["topic"] for row in rows).values()) == {6}


def test_every_question_has_four_choices_and_the_answer_among_them():
    for row in general_knowledge():
        assert len({choice.split()[0] for choice in row["choices"]}) == 4
        assert row["choices"].count(row["answer"]) == 1
        assert row["question"].endswith("?")


def test_the_answer_stands_equally_often_at_each_place():
    places = Counter(row["choices"].index(row["answer"]) for row in general_knowledge())
    assert places == {0: 15, 1: 15, 2: 15, 3: 15}
