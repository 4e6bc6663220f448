"""The preference task: who says which words, what length tells, and what the test set shares with training."""

from collections import Counter

import pytest

import labkit as lk
from labkit.assets.fetch import ensure
from labkit.storage.cache import course_data
from labkit.tasks.likeness import near_copies
from labkit.tasks.phrasings import HOLE
from labkit.tasks.plain_words import NO_PLAIN, plain_words
from labkit.tasks.preferences import ASK, REPLY, TEST_ASK
from labkit.tasks.row import key_of
from labkit.tasks.task import DataWarning
from labkit.tasks.triage import PRIVATE_WORDS, read_terms


@pytest.fixture(scope="module", params=[0, 1])
def task(request):
    return lk.load_task("preferences", seed=request.param)


@pytest.fixture(scope="module")
def terms():
    return read_terms(ensure("hpo") / "hp.obo")


def names(row):
    """What a pair calls its finding, in plain words and in jargon."""
    said = [row[side][0]["content"] for side in ("chosen", "rejected")]
    for form in REPLY:
        before, after = form.split(HOLE)
        if all(text.startswith(before) and text.endswith(after) for text in said):
            return [text[len(before) : -len(after)] for text in said]
    raise AssertionError(said)


def test_plain_words_are_a_laypersons_and_jargon_is_not(task, terms):
    for row in [*task.train, *task.test]:
        term = terms[row["id"]]
        lay = {text for text, scope, kind in term["synonyms"] if (scope, kind) == ("EXACT", "layperson")}
        clinical = {term["name"], *(text for text, scope, _ in term["synonyms"] if scope == "EXACT")} - lay
        plain, jargon = names(row)
        assert plain in lay
        assert jargon in clinical
        assert not PRIVATE_WORDS.search(str(row))
        (question,) = row["prompt"]
        assert question["role"] == "user"
        assert term["definition"] in question["content"]


def test_terms_without_a_laypersons_synonym_are_left_out_and_counted(task, terms):
    without = {
        term
        for term, row in terms.items()
        if not any((scope, kind) == ("EXACT", "layperson") for _, scope, kind in row["synonyms"])
    }
    assert task.left_out[NO_PLAIN] == len(without) > 0
    assert not without & {*task.train["id"], *task.test["id"], *(finding.id for finding in plain_words()[0])}


def test_length_does_not_tell_which_reply_was_chosen(task, tokenizer):
    read = tokenizer("smollm2-135m")
    for part in (task.train, task.test):
        for measure in (len, lambda text: len(read(text)["input_ids"])):
            lengths = [[measure(row[side][0]["content"]) for side in ("chosen", "rejected")] for row in part]
            longer = sum(chosen > rejected for chosen, rejected in lengths)
            shorter = sum(chosen < rejected for chosen, rejected in lengths)
            # Who prefers the longer reply, or the shorter one, is right half of the time.
            assert abs(longer - shorter) <= 0.02 * len(lengths)
            assert longer > len(lengths) / 4
            assert abs(sum(chosen - rejected for chosen, rejected in lengths)) <= 0.1 * len(lengths)


def test_training_knows_no_finding_of_the_test(task):
    train, test = task.train.to_list(), task.test.to_list()
    assert [len(train), len(test)] == [400, 200]
    ids = [row["id"] for row in train + test]
    assert len(set(ids)) == len(ids)
    for place in (0, 1):
        assert not near_copies(*([names(row)[place] for row in rows] for rows in (train, test)))
        said = [{key_of(names(row)[place]) for row in rows} for rows in (train, test)]
        assert not said[0] & said[1]


def test_several_ways_to_ask_some_in_the_test_set_alone(task):
    def form(row):
        known = {finding.id: finding for finding in plain_words()[0]}[row["id"]]
        asked = {ask.format(name=known.name, text=known.definition): ask for ask in (*ASK, *TEST_ASK)}
        return asked[row["prompt"][0]["content"]]

    seen = [Counter(map(form, part)) for part in (task.train, task.test)]
    assert set(seen[0]) == {*ASK}
    assert set(seen[1]) == {*ASK, *TEST_ASK}
    # A finding's name is not shown where it is the plain words.
    for row in task.train:
        if "{name}" in form(row):
            assert f"'{names(row)[0]}'" not in row["prompt"][0]["content"]


def test_more_training_data_leaves_the_test_set_alone_and_a_lack_is_said(task):
    again = lk.load_task("preferences", train=50)
    assert lk.load_task("preferences", train=50).train.to_list() == again.train.to_list()
    assert again.test.to_list() == lk.load_task("preferences").test.to_list()
    with pytest.warns(DataWarning, match=r"Asked for 9,000 pairs .* got \d+ and 200"):
        lk.load_task("preferences", train=9000)


def test_it_says_that_the_pairs_are_constructed(task):
    assert "the pairs are constructed" in str(task)
    assert "Human Phenotype Ontology" in task.source
    assert "HP:" not in (course_data() / "preferences.jsonl").read_text(encoding="utf-8")  # derived at run time
