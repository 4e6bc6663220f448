import pytest

from labkit.evaluation import Evaluation, wilson
from labkit.evaluation.results import score


def test_an_evaluation_prints_its_numbers():
    result = Evaluation(3, 4, wilson(3, 4), {"green": (1, 2), "blue": (2, 2)}, [])
    first, *rest = str(result).splitlines()
    assert first == "accuracy 75.0%   95% interval 30.1% to 95.4%   n = 4"
    assert [line.split() for line in rest] == [["green", "1", "of", "2", "█" * 10], ["blue", "2", "of", "2", "█" * 20]]


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (90, 100, 0.8256, 0.9448),
    ],
)
def test_wilson_gives_the_published_intervals(correct, total, low, high):
    assert wilson(correct, total) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("total", [1, 2, 7, 60, 300])
def test_wilson_solves_its_equation_and_holds_the_share(total):
    for correct in range(total + 1):
        low, high = wilson(correct, total)
        share = correct / total
        assert 0 <= low <= share + 1e-12
        assert share - 1e-12 <= high <= 1
        # The bounds are the shares from which the observed one lies 1.96 standard errors away.
        for bound in (low, high):
            assert (share - bound) ** 2 == pytest.approx(1.96**2 * bound * (1 - bound) / total, abs=1e-9)


def test_classes_are_counted_in_their_order_and_those_without_an_example_left_out():
    classes = ["b", "a", None, "b"]
    result = score([True, False, True, False], classes, ["a", "b", "c"], ["x", "y", "z", "x"])
    assert (result.correct, result.total) == (2, 4)
    assert list(result.per_class.items()) == [("a", (0, 1)), ("b", (1, 2))]
    assert result.predictions == ["x", "y", "z", "x"]
