"""Precision and recall of every detector on one file with all faults planted.

The floors lie a little below the worst of seeds 0 to 5, as ``python tests/curation/test_planted.py`` prints them.
"""

import json
import random
import tempfile
from pathlib import Path

import pytest

import labkit as lk
from labkit.classroom.dirty_file import write_dirty_file

FOREIGN = """Das Kind hat seit der Geburt einen angeborenen Herzfehler und wächst langsam.
Die Patientin klagt über starke Schmerzen in beiden Knien und kann kaum gehen.
Bei der Untersuchung war die Haut an den Händen trocken und gerötet.
Le patient se plaint de douleurs au ventre depuis trois jours et ne mange plus.
La vision de l'œil gauche a beaucoup diminué au cours de l'année dernière.
Cette enfant présente une faiblesse des muscles des jambes et marche difficilement.
El niño tiene convulsiones desde los dos años y toma medicamentos todos los días.
La paciente perdió el oído del lado derecho después de una fiebre muy alta.
Se observa una curvatura anormal de la columna y un hombro más alto que el otro.
Il bambino ha sei dita nella mano destra e i suoi denti sono molto piccoli.
La ragazza soffre di forti mal di testa e vede male quando c'è molta luce.
O paciente tem dificuldade para respirar à noite e tosse há várias semanas.
Os exames mostraram um rim muito pequeno e a pressão do sangue está alta.
患者は生まれつき心臓に穴があり、息切れがひどくなっています。
У ребёнка с рождения слабые мышцы, он поздно начал сидеть и ходить.""".splitlines()
SHORT, LONG = ["ok", "see file", "?", "n/a", "as above"], 5  # LONG: files in one line
FLOORS = {  # precision and recall
    "copies": (0.78, 0.70),
    "leaks": (0.67, 0.97),
    "suspect labels": (0.75, 0.40),
    "personal data": (0.96, 0.96),
    "other language": (0.90, 0.90),
    "odd lengths": (0.90, 0.90),
}


def measure(folder, seed, noise=0.1, train=2000):
    """Return precision and recall by kind of fault, in rows.

    Copies and leaks are counted as planted: HPO has definitions of its own that share 80%, which lowers precision, and
    a note changes more than 20% of a short finding, which lowers recall.
    """
    task = lk.load_task("triage", train=train, test=200, seed=seed)
    planted = write_dirty_file(folder / "dirty.jsonl", task, noise=noise, copies=150, seed=seed)
    rows = [json.loads(line) for line in planted.path.read_text(encoding="utf-8").splitlines()]
    spoilt = planted.leaked | planted.personal | planted.empty
    clean = [row["text"] for number, row in enumerate(rows, 1) if number not in spoilt]
    dice = random.Random(seed)
    odd = [*FOREIGN, *SHORT, *(" ".join(dice.sample(clean, 20)) for _ in range(LONG))]
    rows += [{"text": text, "label": dice.choice(rows)["label"]} for text in odd]
    begun = planted.lines + 1
    foreign = {*range(begun, begun + len(FOREIGN))}
    lengths = {*range(begun + len(FOREIGN), begun + len(odd))}
    test = [
        {"text": prompt.partition(": ")[2].rpartition("\n")[0], "label": label.strip()}
        for prompt, label in zip(task.test["prompt"], task.test["completion"], strict=True)
    ]
    report = lk.inspect({"train": rows, "test": test})
    found = {kind: {report.rows[i].number for i in why if i < report.train} for kind, why in report.reasons().items()}
    found["odd lengths"] = found.pop("too short") | found.pop("too long")
    found["copies"] = found.pop("exact copies") | found.pop("near copies")
    found["suspect labels"] -= foreign | lengths
    # A finding and its copies are one group, of which all but the first line are copies.
    groups = {}
    for copy, first in planted.copies.items():
        groups.setdefault(first, {first}).add(copy)
    wrong = {
        "copies": {line for group in groups.values() for line in group - {min(group)}},
        "leaks": set(planted.leaked),
        "suspect labels": set(planted.mislabelled),
        "personal data": set(planted.personal),
        "other language": foreign,
        "odd lengths": lengths,
    }
    assert report.unusable_rows == len(planted.empty)
    return {
        kind: (len(found[kind] & lines) / max(1, len(found[kind])), len(found[kind] & lines) / len(lines))
        for kind, lines in wrong.items()
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return measure(tmp_path_factory.mktemp("dirty"), 0)


@pytest.mark.parametrize("kind", FLOORS)
def test_planted_faults_are_found(measured, kind):
    precision, recall = measured[kind]
    assert precision >= FLOORS[kind][0]
    assert recall >= FLOORS[kind][1]


def test_every_kind_has_a_floor(measured):
    assert FLOORS.keys() == measured.keys()


if __name__ == "__main__":
    for seed in range(6):
        with tempfile.TemporaryDirectory() as folder:
            got = measure(Path(folder), seed)
            print(seed, *(f"{kind}: {a:.2f} {b:.2f};" for kind, (a, b) in got.items()), flush=True)
