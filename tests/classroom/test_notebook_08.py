from handed_in import changed, solutions, trials

COSTS = {
    "fault": "stop never learned",
    "faulty": trials(0.6),
    "right": trials(0.9),
    "verdict": "worse",
}


def masks(*, header=0, stop=True, first=True, last=True, rest=False):
    """A mask of replies with the mistakes that are asked for."""

    def mask(ids, opening, end):
        learned, starts = [False] * len(ids), []
        for i in range(len(ids)):
            if ids[i : i + len(opening)] == opening:
                starts.append(i + len(opening))
        for number, start in enumerate(starts):
            if (number == 0 and not first) or (number == len(starts) - 1 and not last):
                continue
            stops = len(ids) if rest else ids.index(end, start) + stop
            learned[start - header : stops] = [True] * (stops - start + header)
        return learned

    return mask


def test_the_checks_are_fair(require_fair):
    require_fair({**solutions("08"), "fault_cost": COSTS})


def test_typical_mistakes_are_explained(require_explained):
    require_explained(
        [
            ("reply_mask", masks(stop=False), "never learns to stop"),
            ("reply_mask", masks(header=2), "template writes it"),
            ("reply_mask", masks(first=False), "last reply alone"),
            ("reply_mask", masks(last=False), "first reply alone"),
            ("reply_mask", masks(rest=True), "user's turns too"),
            ("reply_mask", lambda i, h, e: [*masks()(i, h, e)[1:], False], "one token early"),
            ("reply_mask", lambda i, h, e: [not x for x in masks()(i, h, e)], "other way round"),
            ("reply_mask", lambda i, h, e: masks()(i, [1, 9], 2), "use the arguments"),
            ("reply_mask", lambda i, h, e: [True], "and your mask 1"),
            ("reply_mask", lambda i, h, e: 5, "True or False for each token"),
            ("reply_mask", lambda i, h, e: [True] * len(i), "by hand"),
            ("padding_labels", lambda ids, mask, pad: ids.clone(), "write padding for ever"),
            ("padding_labels", lambda ids, mask, pad: ids.masked_fill(mask == 1, -100), "other way round"),
            ("padding_labels", lambda ids, mask, pad: ids.masked_fill_(mask == 0, -100), "in place"),
            ("padding_labels", lambda ids, mask, pad: ids.masked_fill(mask == 0, 0), "token like any other"),
            ("padding_labels", lambda ids, mask, pad: ids[:, :-1], "same shape"),
            ("fault_cost", changed(COSTS, fault="bad luck"), "none of the faults"),
            ("fault_cost", changed(COSTS, faulty=trials(0.6, seeds=[0])), "only one seed"),
            ("fault_cost", changed(COSTS, faulty=trials(0.6, steps=60)), "differ in steps"),
            ("fault_cost", changed(COSTS, verdict="better"), "the other way round"),
            ("fault_cost", changed(COSTS, faulty=trials(0.9)), "may be chance"),
        ]
    )


def test_the_stub_with_the_bug_counts_as_not_attempted(said):
    assert said("padding_labels", lambda ids, mask, pad: ids.masked_fill(ids == pad, -100)).startswith("○")


def test_an_answer_may_be_right_in_another_way(said):
    for name, answer in [
        ("reply_mask", lambda ids, header, stop: [int(x) for x in masks()(ids, header, stop)]),
        ("padding_labels", lambda ids, mask, pad: ids * mask - 100 * (1 - mask)),
        ("fault_cost", changed(COSTS, faulty=trials(0.9), verdict="undecided")),
        ("fault_cost", changed(COSTS, faulty=trials(0.9), right=trials(0.6), verdict="better")),
    ]:
        assert said(name, answer).startswith("✓")
