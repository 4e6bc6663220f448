import json

import pytest

import labkit as lk
from labkit.tasks.task import DataWarning

ROWS = [{"prompt": f"{a}{b} is it", "completion": "yes" if b < "d" else "no"} for a in "abcdef" for b in "abcdef"]
COUNTS = {"train": 20, "test": 10}
JSONL = [json.dumps(row) for row in ROWS]
CSV = ["prompt,completion", *(f"{row['prompt']},{row['completion']}" for row in ROWS)]


def refused(path, content: str | bytes, encoding="utf-8") -> tuple[list[str], str]:
    """Return the lines of the error that a file with this content raises, and its remedy."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    with pytest.raises(lk.LabkitError) as caught:
        lk.load_task(path, **COUNTS)
    return [line.strip() for line in caught.value.cause.splitlines()], caught.value.remedy


def with_line(lines: list[str], number: int, text: str) -> str:
    """Return the file with another text in one line, counted from 1."""
    return "\n".join([*lines[: number - 1], text, *lines[number:]])


BAD_JSON = {
    '{"prompt": "a", "completion": ""}': "the completion has no text: ''",
    '{"prompt": " \\n", "completion": "b"}': "the prompt has no text: ' \\n'",
    '{"prompt": null, "completion": "b"}': "the prompt is null",
    '{"prompt": "a", "completion": 7}': "the completion is not text but of type int: 7",
    '{"prompt": ["a"], "completion": "b"}': "the prompt is not text but of type list: ['a']",
    '{"prompt": "a", "answer": "b"}': "the column completion is missing; there are prompt, answer",
    '{"prompt": "a \\u0000", "completion": "b"}': "the prompt holds a NUL character",
    '{"prompt": "a \\ud83d b", "completion": "b"}': "the prompt holds half a character, \\ud83d",
    '{"prompt": "%s", "completion": "b"}' % ("a" * 200_000): "the prompt has 200,000 characters, more than 131,072",
}
BAD_CSV = {
    "a,": "the completion has no text: ''",
    "a \0,yes": "the prompt holds a NUL character",
    f'"{"word " * 40_000}",yes': "characters, more than 131,072",
    f"{'word ' * 40_000},yes": "characters, more than 131,072",
}


def test_a_fault_is_named_with_its_line(tmp_path):
    for name, lines, faults in (("a.jsonl", JSONL, BAD_JSON), ("a.csv", CSV, BAD_CSV)):
        for text, what in faults.items():
            (first, *rest), remedy = refused(tmp_path / name, with_line(lines, 7, text))
            assert first.startswith(f"{name}, line 7: "), text[:60]
            assert what in first
            assert not rest
            assert remedy.endswith(".")


def test_all_faults_come_at_once(tmp_path):
    text = "\n".join([*JSONL, *BAD_JSON])
    lines, _ = refused(tmp_path / "a.jsonl", text)
    assert [int(line.split("line ")[1].split(":")[0]) for line in lines] == list(range(37, 37 + len(BAD_JSON)))
    lines, remedy = refused(tmp_path / "a.jsonl", "\n".join([*JSONL, *['{"prompt": 1, "completion": ""}'] * 30]))
    assert len(lines) == 21
    assert lines[-1] == "and 40 more"
    ways = ["Write it as text: in quotes, or in pandas with .astype(str).", "Fill it in or remove the example."]
    assert remedy == " ".join([*ways, "skip_bad=True leaves such rows out."])
    text = with_line(with_line(CSV, 5, '"unclosed,yes').split("\n"), 20, "one cell").replace("fa is it", "")
    assert [line.split(": ")[0] for line in refused(tmp_path / "a.csv", text)[0]] == [
        "a.csv, line 5",
        "line 20",
        "line 32",
    ]


def test_labels_that_look_the_same_are_named(tmp_path):
    for label in ("yes ", "yes\\t", "\\nyes", "yes\\u200b", "\\u00a0yes"):
        line = f'{{"prompt": "x is it", "completion": "{label}"}}'
        (cause,), remedy = refused(tmp_path / "a.jsonl", with_line(JSONL, 7, line))
        assert cause.startswith("a.jsonl, line 7: after its prompt, the label ")
        assert "differs from ' yes' (17×) only by white space" in cause
        assert "merge_labels=True" in remedy
    (tmp_path / "a.csv").write_text(with_line(CSV, 8, "x is it,Yes"), encoding="utf-8")
    with pytest.warns(
        DataWarning,
        match=r"'yes' \(17×\) and 'Yes' \(1×\) differ only by .* as 2 \(line 8\)",
    ):
        assert lk.load_task(tmp_path / "a.csv", **COUNTS).labels == (" Yes", " no", " yes")


def test_prompts_may_end_with_a_space_or_without(tmp_path):
    lines = [line.replace("a is it", "a is it ") for line in CSV]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    task = lk.load_task(tmp_path / "a.csv", train=26, test=10)
    assert task.labels == (" no", " yes")
    joined = sorted(row["prompt"] + row["completion"] for row in [*task.train, *task.test])
    assert joined == sorted(f"{row['prompt']} {row['completion']}" for row in ROWS)


def test_the_rest_of_a_broken_array_is_not_left_out_with_its_fault(tmp_path):
    path = tmp_path / "cut.json"
    whole = json.dumps([{"prompt": f"p{i} is it", "completion": "yes"} for i in range(40)], indent=0)
    path.write_text(whole[: len(whole) // 2], encoding="utf-8")
    with pytest.raises(lk.LabkitError, match="not JSON from here on") as caught:
        lk.load_task(path, skip_bad=True)
    assert "skip_bad" not in caught.value.remedy
