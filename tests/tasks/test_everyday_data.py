"""Data as people bring them: each row goes to one of the two sets, and nothing is said that isn't so."""

import random
import warnings
from collections.abc import Iterator
from itertools import product

from datasets import Dataset

import labkit as lk


def apart(count: int, *lists: str) -> Iterator[tuple[str, ...]]:
    """Yield one word of each list; as their lengths have no common divisor, no two rows have two words in common."""
    words = [words.split(", ") for words in lists]
    assert count <= len(words[0]) * len(words[1])
    return ((tuple(each[i % len(each)] for each in words)) for i in range(count))


ACTS = (
    "reset, change, cancel, renew, print, share, find, export, delete, rename, move, pay, sign, scan, sort, store, send"
)
THINGS = (
    "password, address, ticket, photo, invoice, calendar, contract, report, map, profile, backup, recipe, playlist, "
    "form, badge, licence, voucher, receipt, diary"
)
PEOPLE = (
    "The nurse, A neighbour, My uncle, The coach, Our teacher, The baker, A tourist, The pilot, A farmer, The judge, "
    "A singer, The plumber, My sister, The mayor, An actor, A sailor, The clerk, A hunter, The monk, A dentist, "
    "The guard, My cousin, The chef"
)


def tickets(dice: random.Random) -> list[dict]:
    teams = {
        "billing": ["was charged twice for order {}", "got no invoice for order {}", "want a refund for order {}"],
        "shipping": ["never received parcel {}", "got parcel {} with a broken box", "want parcel {} sent elsewhere"],
        "account": ["can't log in as user {}", "was locked out of account {}", "want to delete account {}"],
    }
    parts = [(team, trouble) for team, troubles in teams.items() for trouble in troubles]
    rows = []
    for number in dice.sample(range(100_000, 1_000_000), 600):
        team, trouble = dice.choice(parts)
        name = dice.choice(["Ana", "Bo", "Chidi", "Dara", "Emil", "Fatima"])
        rows.append({"text": f"Hello, I {trouble.format(number)}. Please help me. Thank you, {name}", "label": team})
    return rows


def paraphrases(dice: random.Random) -> list[dict]:
    return [
        {"prompt": f"Paraphrase: How do I {act} my {thing}?", "completion": f"Which way can I {act} the {thing}?"}
        for act, thing in apart(320, ACTS, THINGS)
    ]


def arithmetic(dice: random.Random) -> list[dict]:
    pairs = dice.sample([*product(range(100), repeat=2)], 1000)
    return [{"question": f"What is {a} + {b}?", "answer": f"{a} + {b} = {a + b}"} for a, b in pairs]


def code(dice: random.Random) -> list[dict]:
    bodies = ["sum(x)", "sorted(x)", "x[::-1]", "len(x)", "list(x)", "set(x)", "max(x)"]
    return [
        {
            "prompt": f"Write a Python function to {act} the {thing} of {who.lower()}.\n```python\n",
            "completion": f"def {act}({thing}):\n    x = {thing}\n    return {dice.choice(bodies)}\n```",
        }
        for act, thing, who in apart(320, ACTS, THINGS, PEOPLE)
    ]


def instructions(dice: random.Random) -> list[dict]:
    verbs = ["Summarise", "Translate into French", "Write a headline for", "Find the verbs in", "Shorten", "Explain"]
    rows = []
    for act, thing, who in apart(300, ACTS, THINGS, PEOPLE):
        verb = dice.choice(verbs)
        rows.append({"instruction": f"{verb} this:", "input": f"{who} can {act} a {thing}.", "output": f"{verb} {who}"})
    topics = [f"Name {a} {b}" for a, b in product(["a bird", "a river", "a spice", "a dance"], ["of Peru", "of Mali"])]
    return rows + [{"instruction": topic, "input": "", "output": f"{topic[5:]}?"} for topic in topics]


def chinese(dice: random.Random) -> list[dict]:
    who, when = ["我", "他", "老师", "妈妈", "邻居", "医生"], ["今天", "昨天", "每天早上", "周末", "下个月"]
    where = ["图书馆", "公园", "火车站", "办公室", "厨房"]
    does = {"看书": "学习", "写作业": "学习", "打篮球": "运动", "跑步": "运动", "买菜": "生活", "做饭": "生活"}
    rows = [(w, t, p, d) for w, t, p, d in product(who, when, where, does)]
    return [{"sentence": f"{w}{t}在{p}{d}。", "category": does[d]} for w, t, p, d in dice.sample(rows, 500)]


KINDS = {
    tickets: "'text' and 'label'",
    paraphrases: "",
    arithmetic: "'question' and 'answer'",
    code: "",
    instructions: "'instruction' and 'input' and 'output'",
    chinese: "'sentence' and 'category'",
}


def test_six_kinds_of_data_load_whole():
    for kind, columns in KINDS.items():
        rows = kind(random.Random(0))
        assert 300 <= len(rows) <= 1000
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            task = lk.load_task(Dataset.from_list(rows))
        said = [line.strip() for each in caught for line in str(each.message).splitlines()[1:]]
        assert len(said) == bool(columns), said
        assert all(line.startswith(f"recognised the columns {columns}") for line in said)
        assert task.notes == tuple(said)
        assert (len(task.train), len(task.test), task.left_out) == (len(rows) - len(task.test), len(task.test), {})
        assert len(task.test) == round(0.3 * len(rows))
        given = sorted(row.get("completion", [*row.values()][-1]).strip() for row in rows)
        assert sorted(row["completion"].strip() for row in [*task.train, *task.test]) == given
