import random
from itertools import combinations

import pytest

from labkit.curation.duplicates import find_duplicates
from labkit.curation.personal import find_personal
from labkit.errors import LabkitError

DICE = random.Random(0)
VOCABULARY = ["".join(DICE.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(3000)]


def runs(text):
    words = text.split()
    return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}


def similarity(a, b):
    return len(runs(a) & runs(b)) / len(runs(a) | runs(b))


def planted():
    """400 texts of 60 words; one word is changed in 60 copies, case and spaces in 40, ten words in 60 decoys."""
    dice = random.Random(1)
    texts = [" ".join(dice.choices(VOCABULARY, k=60)) for _ in range(400)]
    for i in range(40):
        texts.append(f"  {texts[i].upper()}\n")
    for i, changed in [(i, 1) for i in range(40, 100)] + [(i, 10) for i in range(100, 160)]:
        words = texts[i].split()
        for place in dice.sample(range(60), changed):
            words[place] = "new"
        texts.append(" ".join(words))
    return texts


def test_planted_copies_are_found_and_nothing_else():
    texts = planted()
    found = find_duplicates(texts)
    assert found.exact == {400 + i: i for i in range(40)}
    lower = [" ".join(text.casefold().split()) for text in texts]
    true = {(a, b) for a, b in combinations(range(len(texts)), 2) if b >= 440 and similarity(lower[a], lower[b]) >= 0.8}
    claimed = {(first, copy) for copy, (first, _) in found.near.items()}
    assert claimed <= true  # verified: no false one
    assert len(true) >= 60
    assert len(claimed) >= 0.98 * len(true)
    for copy, (first, share) in found.near.items():
        assert share == pytest.approx(similarity(lower[first], lower[copy]))
    assert find_duplicates(texts) == found


def test_what_is_like_a_copy_but_not_like_the_kept_text_stays():
    words = [f"w{i}" for i in range(60)]
    chain = [" ".join(words), " ".join(["x", "y", *words[:-5]]), " ".join(["u", "v", "x", "y", *words[:-10]])]
    found = find_duplicates(chain)
    assert similarity(chain[1], chain[2]) >= 0.8 > similarity(chain[0], chain[2])
    assert [*found.near] == [1]


def test_a_crowd_of_copies_has_one_kept_text():
    words = [f"w{i}" for i in range(80)]
    crowd = [" ".join([*words, f"end{i}"]) for i in range(300)]
    found = find_duplicates(crowd)
    assert found.clusters() == [list(range(300))]
    assert found.passed_over > 0


def test_odd_texts():
    assert find_duplicates([]).copy_of == {}
    assert find_duplicates(["", " ", "", "!", "!"]).copy_of == {4: 3}
    assert find_duplicates(["東京は日本の首都です。人口は多い", "ﾄｳ", "東京は日本の首都です。人口は多い "]).exact == {
        2: 0
    }
    assert find_duplicates(["word " * 100_000, "\ud800", "word"]).exact == {}
    for limit in (0, 1.5, None, "1"):
        with pytest.raises(LabkitError, match="limit must be"):
            find_duplicates(["a"], limit=limit)
    with pytest.raises(LabkitError, match="None is not a text"):
        find_duplicates(["a", None])


PERSONAL = {
    "e-mail": ["anna.b+x@example.co.uk", "jürgen@müller.de", "a_b@x-y.org"],
    "phone": ["+49 30 901820", "+1 (415) 555-2671", "(415) 555-2671", "415-555-2671", "+442079460958", "030 90182-123"],
    "IBAN": ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819"],
    "card": ["4111 1111 1111 1111", "5500005555555559"],
}
HARMLESS = [
    "on 2024-01-15 at 10:30",
    "15.01.2024",
    "01/15/2024",
    "version 1.12.3.4",
    "costs 1,234,567.89",
    "$19.99",
    "order 12345-67890",
    "ISBN 978-3-16-148410-0",
    "2024-01-15T10:30:00+00:00",
    "192.168.100.200",
    "id 5551234567",
    "@user a@b",
    "1111 1111 1111 1111",
    "4111 1111 1111 1112",
    "DE89 3704 0044 0532 0130 01",
    "pages 100-200",
    "0.5 1.5 2.5",
    "2020-2021",
    "sum 0 100 200 300",
]


def test_personal_data_are_found_at_their_place():
    for kind, values in PERSONAL.items():
        for value in values:
            text = f"Write to {value}, please."
            ((found, start, end, masked),) = find_personal(text)
            assert (found, text[start:end]) == (kind, value)
            assert value[2:] not in masked


def test_dates_versions_prices_and_numbers_are_not_personal():
    assert [text for text in HARMLESS if find_personal(text)] == []
