import pytest
import torch
from handed_in import changed, evaluation, solutions

from labkit.classroom.merging import draw_updates, merged_by_ties
from labkit.evaluation.results import score

ONES, OTHERS = ("linear", (1, 1)), [("linear", (0.5, 0.5)), ("cat", (1, 1)), ("ties", (1, 1), 0.3)]


def of_class(label, rate, total, seed):
    """An evaluation of another class than those that ``evaluation`` makes."""
    hits = [hit == "1" for hit in evaluation(rate, total, seed).hits]
    return score(hits, [label] * total, [label], [f"{seed}{hit}" for hit in hits])


def measured(rate, total=100, seed=5):
    return {"hospital": evaluation(rate, total, seed), "law": of_class("b", rate, total, seed)}


TRIED = {ONES: measured(0.9)} | {setting: measured(0.5 + 0.1 * i) for i, setting in enumerate(OTHERS)}
SEARCH = {
    "tried": TRIED,
    "chosen": ONES,
    "test": {"hospital": (evaluation(0.6), evaluation(0.9)), "law": (evaluation(0.8, seed=3), evaluation(0.8, seed=2))},
    "verdicts": {"hospital": "worse", "law": "undecided"},
}


def mixed(*, a=lambda A: A.T, b=lambda B: B.T, scale=lambda s: s, w=lambda W: W.T, number=lambda n: n):
    """The outputs of each row, with the mistakes that are asked for."""

    def answer(x, W, adapters, chosen):
        rows = []
        for row, own in zip(x, map(number, chosen), strict=True):
            y = row @ w(W)
            if own is not None:
                A, B, s = adapters[own]
                y = y + scale(s) * (row @ a(A) @ b(B))
            rows.append(y)
        return torch.stack(rows)

    return answer


RIGHT = mixed()


def swapped(x, W, adapters, chosen):
    return RIGHT(x, W, [(B.T, A.T, s) for A, B, s in adapters], chosen)


def zero_for_the_base(x, W, adapters, chosen):
    return RIGHT(x, W, adapters, chosen) * torch.tensor([number is not None for number in chosen])[:, None, None]


def all_at_once(x, W, adapters, chosen):
    return x @ W.T + sum(s * x @ A.T @ B.T for A, B, s in adapters)


def stacked(x, W, adapters, chosen):
    """Right where all adapters have one rank."""
    A, B = (torch.stack([each[side] for each in adapters]) for side in (0, 1))
    s = torch.tensor([each[2] for each in adapters])
    own = torch.tensor([-1 if number is None else number for number in chosen])
    update = s[own, None, None] * torch.einsum("bti,bri,bor->bto", x, A[own], B[own])
    return x @ W.T + update * (own >= 0)[:, None, None]


def in_place(x, W, adapters, chosen):
    for A, B, s in adapters:
        W += s * B @ A
    return x @ W.T


def piled_up(x, W, adapters, chosen):
    outputs = []
    for row, number in zip(x, chosen, strict=True):
        if number is not None:
            A, B, s = adapters[number]
            W = W + s * B @ A
        outputs.append(row @ W.T)
    return torch.stack(outputs)


def merged_by_row(x, W, adapters, chosen):
    """Another way that is right."""
    merged = [W + s * B @ A for A, B, s in adapters]
    weights = [W if number is None else merged[number] for number in chosen]
    return torch.stack([row @ weight.T for row, weight in zip(x, weights, strict=True)])


def on_outputs(x, W, adapters, chosen):
    y = x @ W.T
    return y + RIGHT(y, 0 * W, adapters, chosen)


def returns_early(x, W, adapters, chosen):
    y = x @ W.T
    for row, number in enumerate(chosen):
        A, B, s = adapters[number]
        y[row] += s * x[row] @ A.T @ B.T
        return y


def for_few(x, W, adapters, chosen):
    return RIGHT(x, W, adapters, chosen) if None in chosen else x @ W.T


def by_hand(updates, density):
    """TIES, number by number."""
    flat = [update.flatten().tolist() for update in updates]
    count = int(density * len(flat[0]))
    for values in flat:
        for place in sorted(range(len(values)), key=lambda i: abs(values[i]))[: len(values) - count]:
            values[place] = 0.0
    merged = []
    for values in zip(*flat, strict=True):
        sign = 1 if sum(values) >= 0 else -1
        agree = [value for value in values if value * sign > 0]
        merged.append(sum(agree) / len(agree) if agree else 0.0)
    return torch.tensor(merged).view(updates.shape[1:])


def trimmed(updates, density, key=torch.abs):
    flat = updates.flatten(1)
    places = key(flat).topk(int(density * flat.shape[1])).indices
    return torch.zeros_like(flat).scatter(1, places, flat.gather(1, places)).view_as(updates)


def of_steps(*, trim=trimmed, elect=lambda kept, all: kept.sum(0).sign(), average=None):
    """TIES with other steps."""

    def mean(kept, sign):
        agree = (kept.sign() == sign) & (kept != 0)
        return (kept * agree).sum(0) / agree.sum(0).clamp(min=1)

    def answer(updates, density):
        kept = trim(updates, density)
        return (average or mean)(kept, elect(kept, updates))

    return answer


def agreeing(kept, sign):
    return (kept * (kept.sign() == sign)).sum(0)


def with_zeros(kept, sign):
    agree = torch.where(sign >= 0, kept >= 0, kept <= 0)
    return (kept * agree).sum(0) / agree.sum(0).clamp(min=1)


def of_all_tasks(kept, sign):
    return agreeing(kept, sign) / len(kept)


def of_losers(kept, sign):
    return agreeing(kept, sign) / (kept != 0).sum(0).clamp(min=1)


def of_nobody(kept, sign):
    return agreeing(kept, sign) / ((kept.sign() == sign) & (kept != 0)).sum(0)


def unelected(kept, sign):
    return kept.sum(0) / (kept != 0).sum(0).clamp(min=1)


def trimming(share=lambda density: density, key=torch.abs):
    """TIES that keeps other numbers."""
    return of_steps(trim=lambda updates, density: trimmed(updates, share(density), key))


def together(updates, density):
    return trimmed(updates.flatten()[None], density).view_as(updates)


def by_row(updates, density):
    return trimmed(updates.flatten(0, 1), density).view_as(updates)


def clipped_in_place(updates, density):
    updates.copy_(trimmed(updates, density))
    return of_steps(trim=lambda kept, density: kept)(updates, density)


def of(**parts):
    """The search with other parts."""
    return changed(SEARCH, **parts)


@pytest.fixture
def right():
    return {**solutions("12"), "merge_search": SEARCH}


def test_the_right_answers_pass_and_nonsense_does_not(require_fair, right):
    require_fair(right)


def test_typical_mistakes_are_explained(require_explained):
    pair, alone = SEARCH["test"]["hospital"], {"hospital": TRIED[ONES]["hospital"]}
    tests = {name: merged for name, (merged, _) in SEARCH["test"].items()}
    require_explained(
        [
            ("mixed_batch", mixed(number=lambda n: 1), "same adapter"),
            ("mixed_batch", mixed(scale=lambda s: 1), "scale is missing"),
            ("mixed_batch", mixed(number=lambda n: -1 if n is None else n), "gets Wx alone"),
            ("mixed_batch", mixed(number=lambda n: n or None), "0 is false"),
            ("mixed_batch", mixed(a=lambda A: A, b=lambda B: B), "raised RuntimeError"),
            ("mixed_batch", swapped, "A and B are swapped"),
            ("mixed_batch", mixed(w=lambda W: W), "not transposed"),
            ("mixed_batch", mixed(w=lambda W: 0 * W.T), "Wx is missing"),
            ("mixed_batch", mixed(number=lambda n: None), "No row takes"),
            ("mixed_batch", zero_for_the_base, "They are Wx"),
            ("mixed_batch", all_at_once, "sum of all"),
            ("mixed_batch", piled_up, "pile up"),
            ("mixed_batch", in_place, "changes W"),
            ("mixed_batch", on_outputs, "reads Wx"),
            ("mixed_batch", returns_early, "return too early"),
            ("mixed_batch", lambda *given: RIGHT(*given)[-1], "output of one row"),
            ("mixed_batch", lambda *given: RIGHT(*given).flatten(0, 1), "has the shape (6, 3, 6)"),
            ("mixed_batch", lambda *given: RIGHT(*given).tolist(), "not a list"),
            ("mixed_batch", lambda *given: 2 * RIGHT(*given), "Row 0, whose entry is 1"),
            ("mixed_batch", stacked, "not for the ranks 1 and 3 and rows that take [1, 0, None]: it raised"),
            ("mixed_batch", for_few, "rows that take [0]. Look"),
            ("ties", lambda updates, density: updates.mean(0), "plain mean"),
            ("ties", lambda updates, density: trimmed(updates, density).mean(0), "cancel each other"),
            ("ties", lambda updates, density: trimmed(updates, density).sum(0), "add up what is left"),
            ("ties", of_steps(average=unelected), "all that was kept"),
            ("ties", of_steps(average=of_all_tasks), "number of tasks"),
            ("ties", of_steps(average=with_zeros), "Zeros count"),
            ("ties", of_steps(average=of_losers), "lost the vote"),
            ("ties", of_steps(average=agreeing), "takes their mean"),
            ("ties", of_steps(average=of_nobody), "divide 0 by 0"),
            ("ties", of_steps(trim=lambda updates, density: updates), "all numbers vote"),
            ("ties", of_steps(elect=lambda kept, all: kept.sign().sum(0).sign()), "one vote"),
            ("ties", of_steps(elect=lambda kept, all: all.sum(0).sign()), "Trim first"),
            ("ties", trimming(share=lambda density: 1 - density), "you drop it"),
            ("ties", trimming(key=lambda x: -x.abs()), "smallest"),
            ("ties", trimming(key=torch.clone), "their size"),
            ("ties", of_steps(trim=together), "all tasks together"),
            ("ties", of_steps(trim=by_row), "row by row"),
            ("ties", trimmed, "for each task"),
            ("ties", clipped_in_place, "changes the updates themselves"),
            ("ties", lambda updates, density: by_hand(updates, density).flatten(), "has the shape (4, 10)"),
            ("ties", lambda updates, density: by_hand(updates, 0.3), "not for 0.4"),
            ("ties", lambda updates, density: by_hand(updates, density) + 1, "there should be"),
            ("merge_search", of(tried={each: tests for each in TRIED}), "chosen on the test set"),
            ("merge_search", of(chosen=("ties", (1, 1), 0.3)), "better mean of both"),
            ("merge_search", of(chosen=("ties", (1, 2))), "not among the settings"),
            ("merge_search", of(tried={ONES: TRIED[ONES]}), "Try 4 merges"),
            ("merge_search", of(tried=TRIED | {"linear": TRIED[ONES]}), "'linear' is no setting"),
            ("merge_search", of(tried=TRIED | {("lin", (1, 1)): TRIED[ONES]}), "('lin', (1, 1)) is no setting"),
            ("merge_search", of(tried=[TRIED]), "tried: hand in a dictionary"),
            ("merge_search", of(tried=TRIED | {ONES: alone}), "measured on hospital. A merge has to do both"),
            ("merge_search", of(tried=TRIED | {ONES: alone | {"law": 0.9}}), "not a float"),
            (
                "merge_search",
                of(tried=TRIED | {ONES: alone | {"law": evaluation(0.9, 100)}}),
                "examples are not the same",
            ),
            ("merge_search", of(test={"hospital": pair}), "both tasks are needed"),
            ("merge_search", of(test=SEARCH["test"] | {"law": pair[0]}), "for law, hand in a pair"),
            ("merge_search", of(test=SEARCH["test"] | {"law": (pair[0], evaluation(0.8, 90))}), "tested on 90 and 200"),
            ("merge_search", of(verdicts="worse"), "verdicts: hand in a dictionary"),
            ("merge_search", of(verdicts={"hospital": "worse"}), "missing from your dictionary: law"),
            ("merge_search", of(verdicts={"hospital": "better", "law": "undecided"}), "about 'the merge on hospital'"),
            ("merge_search", of(verdicts={"hospital": "worse", "law": "worse"}), "may be chance"),
            ("merge_search", of(verdicts={"hospital": "undecided", "law": "undecided"}), "do decide"),
        ]
    )


def test_a_merge_by_hand_is_the_librarys():
    for shape, density in (((5, 4, 10), 0.3), ((4, 10), 0.4), ((2, 5), 1.0)):
        torch.testing.assert_close(
            merged_by_ties(draw_updates(*shape), density), by_hand(draw_updates(*shape), density)
        )


def test_an_answer_may_be_right_in_another_way(said):
    hits = {name: tuple(each.hits for each in pair) for name, pair in SEARCH["test"].items()}
    ends = TRIED | {("linear", (1, 0)): measured(0.2)}
    for name, answer in [
        ("mixed_batch", lambda x, W, adapters, chosen: RIGHT(x, W, adapters, chosen).double()),
        ("mixed_batch", merged_by_row),
        ("ties", by_hand),
        ("ties", of_steps(elect=lambda kept, all: torch.where(kept.sum(0) >= 0, 1, -1))),
        ("merge_search", of(test=hits)),
        ("merge_search", of(tried=ends)),
    ]:
        assert said(name, answer).startswith("✓")


def test_a_weight_of_0_makes_no_merge(said):
    alone = {("linear", (0, weight)): TRIED[ONES] for weight in (1, 2, 3)}
    assert "With a weight of 0, it is none" in said("merge_search", of(tried={ONES: TRIED[ONES]} | alone))
