import re
import warnings
from collections import Counter

import pandas as pd
import pytest

import labkit as lk
from labkit.conversations.messages import answered
from labkit.tasks.messages import last_reply

PAIRS = [(f"{a}lpha {a}ndigo {a}onder", ("no", "yes")[i % 2]) for i, a in enumerate("abcdefghijkl")]


def rows(*names: str) -> list[dict]:
    """Return examples whose columns have these names."""
    return [dict(zip(names, pair, strict=True)) for pair in PAIRS]


def loaded(data: object, **options) -> lk.Task:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lk.load_task(data, **options)


def examples(data: object, **options) -> list[tuple[str, str]]:
    task = loaded(data, **options)
    return sorted((row["prompt"], row["completion"]) for row in [*task.train, *task.test])


def refused(data: object, **options) -> lk.LabkitError:
    with pytest.raises(lk.LabkitError) as caught:
        loaded(data, **options)
    return caught.value


def test_known_columns_are_recognised_and_said():
    for names, prompt in (
        (("prompt", "completion"), "{}"),
        (("text", "label"), "{}\nLabel:"),
        (("sentence", "class"), "{}\nLabel:"),
        (("question", "answer"), "{}"),
        (("prompt", "response"), "{}"),
        (("input", "output"), "{}"),
        (("instruction", "output"), "### Instruction:\n{}\n\n### Response:\n"),
        ((" Text\n", "LABEL"), "{}\nLabel:"),
        (("Prompt", "Completion "), "{}"),
    ):
        end = "" if prompt.endswith("\n") else " "
        expected = [(prompt.format(text), f"{end}{label}") for text, label in PAIRS]
        assert examples(rows(*names)) == expected, names
        said = f"recognised the columns {names[0]!r} and {names[1]!r}"
        is_said = any(note.startswith(said) for note in loaded(rows(*names)).notes)
        assert is_said == (names[1].strip() not in ("completion", "Completion"))


def test_an_instruction_may_have_an_input():
    data = [{"instruction": "Translate.", "input": text, "output": label} for text, label in PAIRS]
    for i, nothing in enumerate(("", None, "  ")):
        data[i] |= {"instruction": PAIRS[i][0], "input": nothing}
    del data[2]["input"]
    whole = "### Instruction:\nTranslate.\n\n### Input:\n{}\n\n### Response:\n"
    brief = "### Instruction:\n{}\n\n### Response:\n"
    expected = [((brief if i < 3 else whole).format(text), label) for i, (text, label) in enumerate(PAIRS)]
    assert examples(data) == sorted(expected)
    assert (
        "row 4 (list[3]): the input is not text but of type int"
        in refused([*data[:3], {**data[3], "input": 7}, *data[4:]]).cause
    )


def test_the_name_that_is_spelled_right_comes_first():
    data = [{"Text": "other", **row, "LABEL": "other"} for row in rows("text", "label")]
    assert examples(data) == [(f"{text}\nLabel:", f" {label}") for text, label in PAIRS]


def test_columns_may_have_any_name():
    for names in (
        ("a{b}", "{c}"),
        ("my\ntext", "{prompt}"),
        ("0", "1"),
        ("the completion", "the prompt"),
        ('a"b', "c'd"),
    ):
        data = rows(*names)
        columns = dict(zip(("prompt", "completion"), names, strict=True))
        assert examples(data, columns=columns) == [(text, f" {label}") for text, label in PAIRS], names
    assert examples(pd.DataFrame(PAIRS), columns={"prompt": 0, "completion": 1}) == [(a, f" {b}") for a, b in PAIRS]


def test_templates_put_columns_between_words():
    data = [{**row, "who": "Ana"} for row in rows("text", "team")]
    columns = {"prompt": 'From {who}: {text} {} {"as": {text}}\nTeam:', "completion": "{team}!"}
    expected = [(f'From Ana: {text} {{}} {{"as": {text}}}\nTeam:', f" {team}!") for text, team in PAIRS]
    assert examples(data, columns=columns) == expected
    named = [{"prompt": text, "team": team} for text, team in PAIRS]
    assert examples(named, columns={"completion": "team"}) == [(text, f" {team}") for text, team in PAIRS]


def test_wrong_columns_are_explained():
    data = rows("text", " team ")
    for columns, cause in (
        (["text", "team"], "columns must name a column for prompt and completion, not ['text', 'team']"),
        ({"prompt": "text", "completion": None}, "columns must name a column"),
        ({"text": "prompt", "team": "completion"}, "columns takes prompt and completion, not 'text'"),
        ({"prompt": "txt", "completion": " team "}, "has no column 'txt'; it has the columns 'text', ' team '"),
        ({"prompt": "text", "completion": "team"}, "has no column 'team'; it has the columns 'text', ' team '"),
        ({"prompt": "{text} {who}", "completion": " team "}, "has no column 'who'"),
        ({"prompt": "text"}, "has no column 'completion'"),
        ({"prompt": "Say yes", "completion": " team "}, "has no column 'Say yes'"),
        ({"prompt": "", "completion": " team "}, "has no column ''"),
    ):
        assert cause in refused(data, columns=columns).cause


def test_the_suggested_columns_work():
    ids = [{"id": str(i), "day": "Monday"} for i in range(len(PAIRS))]
    for names in (("review", "rating"), ('my "own" text', "ärger"), ("a{b}", "Team"), ("0", "1")):
        for data in (rows(*names), [{**a, **b} for a, b in zip(ids, rows(*names), strict=True)]):
            problem = refused(data)
            assert problem.cause.endswith("it is unclear which is the prompt and which is the completion.")
            columns = eval(re.search(r"columns=(\{.*?\})\)\. Known", problem.remedy)[1])
            assert columns == {"prompt": names[0], "completion": names[1]}
            assert examples(data, columns=columns) == [(text, f" {label}") for text, label in PAIRS]
    data = pd.DataFrame({"review": [text for text, _ in PAIRS], "stars": range(12)})
    assert 'columns={"prompt": "review", "completion": "stars"}' in refused(data).remedy
    assert "A prompt and a completion are needed" in refused([{"text": "a"}]).remedy
    assert "call it messages" in refused([{"chat": conversation("a", "b")}]).remedy


def conversation(*texts: str, roles=("user", "assistant"), names=("role", "content")) -> list[dict]:
    return [dict(zip(names, (roles[i % 2], text), strict=True)) for i, text in enumerate(texts)]


def test_the_last_reply_of_a_conversation_is_learned():
    system = {"role": "system", "content": "Be short."}
    for messages, read in (
        (conversation("Hi", "Hello"), "User: Hi\nAssistant:"),
        ([system, *conversation("Hi", "Hello")], "System: Be short.\nUser: Hi\nAssistant:"),
        (conversation("Hi", "Yes?", "Bye", "Hello"), "User: Hi\nAssistant: Yes?\nUser: Bye\nAssistant:"),
        (conversation("Hi", "Hello", roles=("human", "gpt"), names=("from", "value")), "User: Hi\nAssistant:"),
        (tuple(conversation("Hi", "Hello", roles=("User", "ASSISTANT "))), "User: Hi\nAssistant:"),
    ):
        assert last_reply(answered(messages)) == (read, "Hello")


def test_conversations_load_from_all_that_holds_lists(tmp_path):
    chats = [conversation(text, label) for text, label in PAIRS]
    frame = pd.DataFrame({"Messages": chats})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.json", orient="records")
    expected = [(f"User: {text}\nAssistant:", f" {label}") for text, label in PAIRS]
    for data in (frame, tmp_path / "a.parquet", tmp_path / "a.json", pd.read_parquet(tmp_path / "a.parquet")):
        assert examples(data) == expected
    assert "the last reply of each conversation is learned" in loaded(frame).notes[0]


def test_conversations_stay_what_they_are_for_models_with_a_chat_template():
    shares = [
        conversation(text, label.upper(), roles=("human", "gpt"), names=("from", "value")) for text, label in PAIRS
    ]
    data = [{"conversations": [{"from": "system", "value": "Be short."}, *turns]} for turns in shares]
    data[0]["conversations"][-1]["value"] = PAIRS[0][1]
    task = loaded(data, merge_labels=True)  # which also changes what the assistant says
    system = {"role": "system", "content": "Be short."}
    found = sorted((row["messages"] for row in [*task.train, *task.test]), key=lambda turns: turns[1]["content"])
    assert found == [[system, *conversation(text, label.upper())] for text, label in PAIRS]
    assert "messages" not in loaded(rows("text", "label")).train.column_names


def test_what_is_no_conversation_is_named_by_row():
    where = "the column messages"
    bad = {
        f"{where} is no list of messages": ("Hi", None, [], {"role": "user"}),
        f"Message 2 of {where} is no dictionary": ([conversation("Hi")[0], "Hello"],),
        f"Message 1 of {where} has the unknown role": (conversation("Hi", "Hello", roles=("tool", "assistant")),),
        f"Message 1 of {where} has no role": ([{}],),
        f"Message 2 of {where} is empty": (conversation("Hi", " "), conversation("Hi", None)),
        f"Message 1 of {where} holds a list, not a text": (conversation([{"type": "text", "text": "Hi"}], "Hello"),),
        f"{where} ends with no reply": (conversation("Hi"), conversation("Hi", "Hello", "Bye")),
        f"{where} has no message of the user before": (conversation("Hi", "Hello")[1:],),
        f"{where} has two messages of the user in a row": (
            conversation("Hi", "There?", "Hello", roles=("user", "user")),
        ),
    }
    good = [{"messages": conversation(text, label)} for text, label in PAIRS]
    for what, values in bad.items():
        problem = refused([*good, *({"messages": value} for value in values)])
        assert Counter(re.findall(r"row (\d+)", problem.cause)) == Counter(str(13 + i) for i in range(len(values)))
        assert problem.cause.count(what) == len(values), problem.cause
    long = refused([*good, {"messages": conversation("a" * 200_000, "b")}])
    assert "row 13 (list[12]): the prompt has 200,0" in long.cause
