import pytest

from labkit.curation.languages import find_languages, find_others
from labkit.curation.lengths import measure_lengths
from labkit.curation.words import unframed
from labkit.errors import LabkitError

SENTENCES = {
    "en": "My neighbour says that the lamp in front of our house has been broken since last week.",
    "de": "Mein Nachbar sagt, dass die Lampe vor unserem Haus seit letzter Woche kaputt ist.",
    "fr": "Mon voisin dit que la lampe devant notre maison est cassée depuis la semaine dernière.",
    "es": "Mi vecino dice que la lámpara delante de nuestra casa está rota desde la semana pasada.",
    "ru": "Сосед говорит, что фонарь перед нашим домом не работает уже больше недели, и вечером здесь очень темно.",
    "ja": "隣の人によると、家の前の街灯は先週から壊れているそうです。",
}


def test_languages_are_told_apart_and_short_texts_are_left_open():
    assert find_languages([*SENTENCES.values()]) == [*SENTENCES]
    assert find_languages(["", "ok", "12345 678 910 11 12 13", "\ud800", "Roads"]) == ["und"] * 5
    assert find_others(["en", "en", "und", "de"]) == {3: "de"}
    assert find_others(["und"]) == find_others(find_languages([])) == {}
    with pytest.raises(LabkitError, match="None is not a text"):
        find_languages([None])


def test_the_limits_of_lengths_are_where_the_docstring_says():
    found = measure_lengths(["a" * 100] * 2 + ["b" * 200] * 2 + ["c" * 24, "d" * 801] + ["e" * 150] * 3)
    assert (found.low, found.high) == (25, 800)
    assert (found.short(), found.long()) == ([4], [5])
    assert measure_lengths([]).counts == ()
    assert measure_lengths([" same "] * 9).short() == []


def test_what_frames_every_text_is_taken_away():
    framed = ["Finding: deaf in an ear\nDepartment:", "Finding: blue nose in an ear\nDepartment:"]
    assert unframed(framed) == ["deaf", "blue nose"]
    assert unframed(["same text here", "same text here"]) == ["same text here"] * 2
    assert unframed(["the lamp", "the lake"]) == ["lamp", "lake"]
    assert unframed([]) == []
