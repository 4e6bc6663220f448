import pytest
import torch

import labkit as lk
from labkit.comparisons.two_jobs import CATEGORIES, OPENING, PARTS, Jobs, hospital_job, law_job, prefers_plain


@pytest.fixture(scope="module")
def jobs():
    return Jobs.of(train=80, test=60, pairs=40)


def test_the_hospital_learns_departments_and_plain_words_in_equal_shares(jobs):
    replies = jobs.hospital.train["completion"]
    named = [reply in jobs.hospital.labels for reply in replies]
    assert 36 <= sum(named) <= 40
    assert 36 <= len(named) - sum(named) <= 40
    chosen = {*jobs.pairs.train["chosen"]}
    assert {reply for reply, is_named in zip(replies, named, strict=True) if not is_named} <= chosen


def test_what_either_task_tests_is_learned_in_neither():
    triage, pairs = lk.load_task("triage", train=2000, test=300), Jobs.of(train=600, test=20, pairs=60).pairs
    both = hospital_job(triage, pairs)
    definitions = [prompt.removeprefix("Finding: ").removesuffix("\nDepartment:") for prompt in triage.test["prompt"]]
    assert len(both.train) < len(triage.train) + len(pairs.train)  # some were left out
    learned = both.train["prompt"][:]
    assert not [text for text in definitions if any(text in prompt for prompt in learned)]


def test_a_pair_is_a_question_and_two_answers(jobs):
    for before, row in zip(lk.load_task("preferences", train=40, test=40).test, jobs.pairs.test, strict=True):
        assert row["prompt"] == before["prompt"][0]["content"] + "\nAnswer:"
        assert [row[part] for part in ("chosen", "rejected")] == [
            " " + before[part][0]["content"] for part in ("chosen", "rejected")
        ]


def test_plain_words_are_preferred_where_they_are_likelier(jobs, tiny):
    """The reference reads each text by itself."""
    hits = ""
    for row in jobs.pairs.test:
        prompt = tiny.tokenizer(row["prompt"])["input_ids"]
        sums = []
        for reply in (row["chosen"], row["rejected"]):
            ids = [*prompt, *tiny.tokenizer(reply)["input_ids"], tiny.tokenizer.eos_token_id]
            with torch.no_grad():
                logps = tiny.module(torch.tensor([ids])).logits[0].log_softmax(-1)
            sums.append(sum(logps[at - 1, ids[at]].item() for at in range(len(prompt), len(ids))))
        hits += str(int(sums[0] > sums[1]))
    assert prefers_plain(tiny, jobs.pairs).hits == hits
    assert {*hits} == {"0", "1"}


def test_a_licence_is_its_opening_and_has_one_of_three_categories(jobs):
    whole = {row["id"]: row for row in lk.load_task("licenses").test}
    assert len(jobs.law.test) == 60
    assert len(jobs.law.train) == 80
    for row in jobs.law.test:
        before = whole[row["id"]]
        assert row["prompt"].endswith("\nCategory:")
        assert before["prompt"].startswith(row["prompt"].removesuffix("\nCategory:"))
        assert len(row["prompt"]) <= OPENING + len("\nCategory:")
        assert row["completion"] == before["completion"]
    assert {*jobs.law.test["completion"]} == {*jobs.law.train["completion"]} == {*jobs.law.labels} == {*CATEGORIES}
    assert jobs.law.train.column_names == PARTS
    assert law_job(80, 60).test.to_list() == jobs.law.test.to_list()
