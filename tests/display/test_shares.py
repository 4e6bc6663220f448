import pytest

import labkit as lk
from labkit.evaluation.results import score


def share(correct, total=20):
    hits = [i < correct for i in range(total)]
    return score(hits, ["a"] * total, ["a"], ["x"] * total)


GROUPS = {"before": {"exact": share(0), "ended": share(12)}, "after": {"exact": share(15), "ended": share(20)}}


def test_every_share_is_a_dot_with_its_interval():
    ax = lk.plots.shares(GROUPS)
    dots = {name: bars.lines[0].get_xydata().tolist() for name, bars in zip(GROUPS, ax.containers, strict=True)}
    assert [x for x, _ in dots["before"]] == [0, 60]
    assert [x for x, _ in dots["after"]] == [75, 100]
    for bars, group in zip(ax.containers, GROUPS.values(), strict=True):
        for segment, each in zip(bars.lines[2][0].get_segments(), group.values(), strict=True):
            assert segment[:, 0] == pytest.approx([100 * bound for bound in each.interval])
    rows = [round(y) for _, y in dots["before"]]
    assert rows == [round(y) for _, y in dots["after"]] == [0, 1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["exact", "ended"]


def test_words_say_what_is_shown():
    words = lk.plots.alt_text(lk.plots.shares(GROUPS))
    assert "exact: before 0 (0 to 16), after 75" in words
    assert "ended: before 60" in words


def test_nothing_to_draw_is_refused():
    with pytest.raises(lk.LabkitError, match="no share"):
        lk.plots.shares({"before": {}})
