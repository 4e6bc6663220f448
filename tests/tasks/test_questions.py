import pytest
from datasets import Dataset

import labkit as lk
from labkit.tasks.questions import questions

ASK = {"role": "user", "content": "What is it?"}
SAY = {"role": "assistant", "content": "A bone."}


def task(**columns):
    rows = Dataset.from_list([columns])
    return lk.Task("own", rows, rows, (), "made up")


def test_answers_are_left_out():
    rows, asked = questions(task(messages=[ASK, SAY, ASK, SAY], prompt="User: …", accepted=["a"]))
    assert asked == [[ASK, SAY, ASK]]
    assert rows[0]["accepted"] == ["a"]
    assert questions(task(messages=[ASK]))[1] == [[ASK]]
    assert questions(task(prompt=[ASK], chosen=[SAY], rejected=[SAY]))[1] == [[ASK]]
    assert questions(task(prompt="The sky is", completion=" blue"))[1] == ["The sky is"]
    assert questions(["a", "b"]) == ([{"prompt": "a"}, {"prompt": "b"}], ["a", "b"])


def test_without_prompts_there_is_nothing_to_ask():
    for nothing in ([], (), "text", 3, None):
        with pytest.raises(lk.LabkitError, match="no prompts"):
            questions(nothing)
    with pytest.raises(lk.LabkitError, match="own has no prompts: its columns are text"):
        questions(task(text="a"))
