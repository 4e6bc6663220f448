from collections import Counter

import pytest

import labkit as lk
from labkit.comparisons.two_jobs import OPENING, Jobs, as_conversations, hospital_job


@pytest.fixture(scope="module")
def jobs():
    return Jobs.of(train=80, test=60, pairs=40)


def test_the_hospital_learns_departments_and_plain_words_in_equal_shares(jobs):
    departments = {label.strip() for label in jobs.hospital.labels}
    replies = [messages[-1]["content"] for messages in jobs.hospital.train["messages"]]
    named = [reply in departments for reply in replies]
    assert 36 <= sum(named) <= 40
    assert 36 <= len(named) - sum(named) <= 40
    chosen = {row["chosen"][0]["content"] for row in jobs.pairs.train}
    assert {reply for reply, is_named in zip(replies, named, strict=True) if not is_named} <= chosen


def test_what_either_task_tests_is_learned_in_neither():
    triage, pairs = lk.load_task("triage", train=2000, test=300), lk.load_task("preferences", train=300, test=60)
    both = hospital_job(triage, pairs)
    texts = [messages[0]["content"] for messages in both.train["messages"]]
    definitions = [prompt.removeprefix("Finding: ").removesuffix("\nDepartment:") for prompt in triage.test["prompt"]]
    assert len(texts) < len(triage.train) + len(pairs.train)  # some were left out
    assert not [text for text in definitions if any(text in learned for learned in texts)]


def test_a_conversation_ends_with_the_label(jobs):
    task = lk.load_task("triage", train=20, test=20)
    for before, row in zip(task.test, as_conversations(task).test, strict=True):
        user, assistant = row["messages"]
        assert user == {"role": "user", "content": before["prompt"]}
        assert assistant == {"role": "assistant", "content": before["completion"][1:]}
        assert row["completion"] == before["completion"]  # which lk.evaluate compares with


def test_law_learns_the_openings_of_licences_of_three_categories(jobs):
    whole = lk.load_task("licenses")
    counts = Counter(whole.train["completion"][:])
    assert {label for label, _ in counts.most_common(3)} == {*jobs.law.labels}
    kept = [row for row in whole.test if row["completion"] in jobs.law.labels][:60]
    for before, row in zip(kept, jobs.law.test, strict=True):
        assert row["completion"] == before["completion"]
        assert row["prompt"].endswith("\nCategory:")
        assert before["prompt"].startswith(row["prompt"].removesuffix("\nCategory:"))
        assert len(row["prompt"]) <= OPENING + len("\nCategory:")
        assert row["messages"][0]["content"] == row["prompt"]
    learned = Counter(messages[-1]["content"] for messages in jobs.law.train["messages"])
    assert {f" {label}" for label in learned} == {*jobs.law.labels}
    assert sum(learned.values()) == 80
    assert max(learned.values()) - min(learned.values()) <= 1
    assert not {messages[0]["content"] for messages in jobs.law.train["messages"]} & {*jobs.law.test["prompt"]}
