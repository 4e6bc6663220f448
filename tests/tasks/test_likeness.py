import pytest

from labkit.tasks.likeness import near_copies, shingles, similarity


def test_shingles_are_runs_of_words():
    for text, expected in [
        ("The cat sat", {("the", "cat"), ("cat", "sat")}),
        ("The CAT, sat!", {("the", "cat"), ("cat", "sat")}),
        ("cat 12 sat3", {("cat", "sat")}),
        ("cat", {("cat",)}),
        ("Größe für alle", {("größe", "für"), ("für", "alle")}),
    ]:
        assert shingles(text) == expected


def test_similarity_is_the_shared_share():
    for a, b, expected in [
        ("a b c", "a b c", 1),
        ("a b c", "a b d", 1 / 3),
        ("a b c d", "b c", 1 / 3),
        ("a b", "c d", 0),
        ("a b", "b a", 0),
    ]:
        assert similarity(shingles(a), shingles(b)) == pytest.approx(expected)


def test_near_copies_share_runs_of_words_but_no_template_and_no_other_numbers():
    numbered = [f"What is the sum of {n * 37} and {n * 91}, please?" for n in range(1, 101)]
    same = ["The quick brown fox jumps over the dog", "A < B holds for all pairs", "我今天想去图书馆看书"]
    near = ["the QUICK brown fox jumps over the cat!", "A < B holds for all rows", "我今天想去图书馆借书"]
    far = ["The quick brown hen hops over a wall", "A > B holds for no pairs", "他昨天在家里看电视"]
    assert near_copies(near + numbered[:50], same + numbered[50:]) == [(0, 0), (1, 1), (2, 2)]
    assert near_copies(far, same) == []
    assert near_copies(["Add 12 + 30", "Add 12 - 31", "Add 12 + 31"], ["Add 12 + 31 "]) == [(2, 0)]
    assert near_copies(["", "?!"], ["", "..."]) == []
