"""The preference task: explain a finding to a patient, where plain words are chosen and jargon is rejected.

The pairs are constructed. Nobody compared two replies: the ontology's curators said which names a layperson uses (see
``plain_words``), and both replies put their name into the same sentence. Their lengths are controlled: findings are
drawn in couples, and where the plain words of one are longer than its jargon, those of the other are as much shorter.
So whoever prefers the longer reply, or the shorter one, in characters or in SmolLM2's tokens, is right half of the
time. In words plain replies are the longer ones, for they have short words: that is much of what makes them plain. It
is an exercise in fine-tuning, not medical advice.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from functools import cache as memoize
from typing import TypeAlias

from labkit.tasks.course import unlike
from labkit.tasks.phrasings import HOLE
from labkit.tasks.plain_words import Finding, Wording, plain_words
from labkit.tasks.row import key_of

CONSTRUCTED = "the pairs are constructed: one sentence, completed with a layperson's name or with a doctor's"
ALONE = "no other finding whose lengths differ as much the other way"
SLACK = 2  # characters that the differences in a couple may fail to cancel; tokens cancel
# People ask with the finding's name, which a model may only repeat, or with its definition alone.
ASK = (
    "My letter says '{name}'. {text} What does that mean?",
    "Explain '{name}' to a patient in a few words. {text}",
    "A patient reads '{name}' in a report and asks what it is. {text}",
    "How would you call this if you spoke to a patient? {text}",
    "{text}\nName this finding for somebody who never studied medicine.",
    "What should a letter to the patient say was found? {text}",
)
TEST_ASK = (  # in the test set alone: they show whether a model learned the preference or a wording
    "My grandmother has '{name}' in her papers. {text} What is it?",
    "Tell a worried parent in one line what this is: {text}",
)
REPLY = ("What was found: ….", "This means: ….", "In short: ….", "The finding is this: ….")

Pair: TypeAlias = tuple[Finding, Wording]


def preference_split(train: int, test: int, seed: int) -> tuple[list[dict], list[dict], dict[str, int]]:
    """Draw pairs for training and for testing.

    A finding is in one set only, and neither names nor definitions nor wordings of training are near copies of those of
    the test. The test set depends on ``seed`` and ``test`` alone. Some ways to ask occur in the test set alone.

    Returns:
        Rows for training and for testing, each with id, kind (``"plain words"``), and prompt, chosen and rejected as
        lists of messages; and how many terms of the ontology can't be used, by reason.
    """
    couples, left_out = _couples()
    order = list(couples)
    random.Random(seed).shuffle(order)
    tested = _first(order, min(test, 2 * (len(order) // 3)))
    ids = {finding.id for finding, _ in tested}
    is_new = unlike([text for pair in tested for text in _texts(pair)])
    rest = [
        couple for couple in order if all(pair[0].id not in ids and all(map(is_new, _texts(pair))) for pair in couple)
    ]
    parts = ((_first(rest, train), ASK, "train"), (tested, (*ASK, *TEST_ASK), "test"))
    # Each set has its own dice: more training data never changes what is tested.
    learned, asked = (
        [_row(pair, ask, random.Random(f"{seed} {name} {pair[0].id}")) for pair in pairs] for pairs, ask, name in parts
    )
    return learned, asked, left_out


def _first(couples: Iterable[tuple[Pair, Pair]], count: int) -> list[Pair]:
    return [pair for couple in couples for pair in couple][:count]


def _texts(pair: Pair) -> tuple[str, ...]:
    finding, wording = pair
    return finding.name, finding.definition, wording.plain, wording.jargon


def _row(pair: Pair, ask: tuple[str, ...], dice: random.Random) -> dict:
    finding, wording = pair
    if key_of(finding.name) == key_of(wording.plain):  # it would give the reply away
        ask = tuple(form for form in ask if "{name}" not in form)
    question, reply = dice.choice(ask).format(name=finding.name, text=finding.definition), dice.choice(REPLY)
    chosen, rejected = (
        [{"role": "assistant", "content": reply.replace(HOLE, text)}] for text in (wording.plain, wording.jargon)
    )
    prompt = [{"role": "user", "content": question}]
    return {"id": finding.id, "kind": "plain words", "prompt": prompt, "chosen": chosen, "rejected": rejected}


@memoize
def _couples() -> tuple[tuple[tuple[Pair, Pair], ...], dict[str, int]]:
    """Return couples of findings whose differences in length cancel, and how many terms are in none and why."""
    findings, left_out = plain_words()
    findings = sorted(findings, key=lambda finding: random.Random(finding.id).random())
    # For each difference in length, the pairs that have it, by finding.
    places: dict[tuple[int, int], dict[str, Pair]] = defaultdict(dict)
    for finding in findings:
        for wording in finding.wordings:
            places[wording.characters, wording.tokens].setdefault(finding.id, (finding, wording))
    free = {finding.id for finding in findings}
    couples = []
    for slack in sorted(range(-SLACK, SLACK + 1), key=abs):  # those that cancel exactly come first
        for finding in sorted(findings, key=lambda finding: len(finding.wordings)):  # and those with few ways to
            rivals = (
                ((finding, wording), other)
                for wording in finding.wordings
                for other in places[slack - wording.characters, -wording.tokens].values()
                if other[0].id in free and other[0].id != finding.id
            )
            if finding.id in free and (couple := next(rivals, None)):
                couples.append(couple)
                free -= {finding.id, couple[1][0].id}
    return tuple(couples), left_out | {ALONE: len(free)}
