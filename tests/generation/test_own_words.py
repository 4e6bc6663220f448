import pytest
from datasets import Dataset

import labkit as lk
from labkit.generation import own_words
from labkit.generation.replies import Reply

FORM = "Department: …"


def row(question, answer):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "accepted": [answer], "form": FORM, "kind": "route"}


@pytest.fixture
def task():
    rows = [row("A rash?", "Department: dermatology"), row("A murmur?", "Department: cardiology")]
    return lk.Task("clinic", Dataset.from_list(rows), Dataset.from_list(rows), (), "made here")


@pytest.fixture
def says(monkeypatch):
    """Lets the model say given texts, in the order of tries and rows."""

    def to_say(*texts, stopped=True):
        asked = []

        def generate(model, prompts, count, **settings):
            asked.extend(messages[0]["content"] for messages in prompts)
            return [Reply(text, 5, stopped, ()) for text in texts]

        monkeypatch.setattr(own_words, "generate", generate)
        return asked

    return to_say


def replies(task):
    return [messages[-1]["content"] for messages in task.train["messages"]]


def test_the_first_wording_that_holds_the_answer_replaces_it(task, tiny, says):
    asked = says("See a doctor.", "Cardiology can help.", "Dermatology looks at skin.", "It is a case of cardiology.")
    own, count = own_words.in_own_words(tiny, task, tries=2)
    assert replies(own) == ["Dermatology looks at skin.", "Cardiology can help."]
    assert count == 2
    assert "Answer: Department: dermatology" in asked[0]
    assert "Keep 'dermatology'" in asked[2]
    assert replies(task)[0] == "Department: dermatology"
    assert own.test["messages"][:] == task.test["messages"][:]


def test_a_wording_without_the_answer_or_without_an_end_is_not_taken(task, tiny, says):
    says("Dermatologyist", "Cardio.")
    assert replies(own_words.in_own_words(tiny, task, tries=1)[0]) == replies(task)
    says("Dermatology it is", "Cardiology it is", stopped=False)
    own, count = own_words.in_own_words(tiny, task, tries=1)
    assert (replies(own), count) == (replies(task), 0)


def test_a_model_is_asked_with_a_seed(task, tiny):
    first, again = (own_words.in_own_words(tiny, task, tries=1, max_new_tokens=3, seed=5) for _ in range(2))
    assert replies(first[0]) == replies(again[0])
