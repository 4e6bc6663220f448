from decimal import Decimal

import pytest

from labkit.testing.numbers import differences
from labkit.testing.tolerance import read_mark

TWO_PERCENT = read_mark("# ±2%")


def test_numbers_may_differ_and_nothing_else():
    for stored, new in (
        ("loss 4.30", "loss 4.38"),
        ("loss -4.30", "loss −4.38"),
        ("loss 4.30s after 12 steps", "loss 4.38s after 12 steps"),
        ("1e-05", "1.02e-05"),
        ("1,234.5 and [1.0, .5]", "1,236.0 and [1.01, 0.505]"),
        ("83.3%", "84.9%"),
        ("0.0", "0.0"),
        ("a    4.99\n--------", "a   5.01\n---------"),
        ("<td>4.30</td>", "<td>4.38</td>"),
        ("# 4.30", "# 4.38"),
    ):
        assert differences(stored, new, TWO_PERCENT) == [], (stored, new)
    for stored, new in (
        ("loss 4.30", "Loss 4.30"),
        ("4.30", "nan"),
        ("4.30", "4.30 4.30"),
        ("4.30\n", "4.30\n\n"),
        ("True 4.30", "False 4.30"),
        ("NF4", "NF5"),
        ("torch 2.13.0", "torch 2.13.1"),
        ("2²", "2³"),
        ("#", "5"),
        ("# 5", "5 #"),
        ("a --", "a"),
        ("a--b", "a b"),
    ):
        assert differences(stored, new, TWO_PERCENT) is None, (stored, new)


def test_a_number_that_is_too_far_is_named_with_both_values_and_the_limit():
    for stored, new, told in (
        ("1.00\nloss 4.30", "1.00\nloss 4.40", "line 2: 4.30 is stored, and 4.40 is new; ±2% allows 0.086"),
        ("-0.5", "0.5", "line 1: -0.5 is stored, and 0.5 is new; ±2% allows 0.01"),
        ("0.0", "0.1", "line 1: 0.0 is stored, and 0.1 is new; ±2% allows 0"),
        ("10-20", "10-21", "line 1: 20 is stored, and 21 is new; whole numbers must be equal"),
        ("1,000", "1,001", "line 1: 1,000 is stored, and 1,001 is new; whole numbers must be equal"),
    ):
        assert differences(stored, new, TWO_PERCENT) == [told]
    assert len(differences("1.0 2.0 3.0", "1.5 2.0 3.5", TWO_PERCENT)) == 2


@pytest.mark.parametrize(
    ("mark", "stored"), [("# ±2%", "83.30"), ("# ±0.05", "0.30"), ("# ±3", "120"), ("# ±1.5", "7.0")]
)
def test_the_limit_is_met_and_twice_the_limit_fails(mark, stored):
    """Exactly: in binary, 0.35 - 0.30 is more than 0.05."""
    tolerance = read_mark(mark)
    limit = tolerance.allows(Decimal(stored))
    for sign in (-1, 1):
        at, beyond = Decimal(stored) + sign * limit, Decimal(stored) + 2 * sign * limit
        assert differences(stored, str(at), tolerance) == []
        assert len(differences(stored, str(beyond), tolerance)) == 1


def test_the_larger_of_two_limits_holds():
    tolerance = read_mark("# ±2% ±0.01")
    assert differences("0.000 100.0", "0.010 102.0", tolerance) == []
    assert differences("0.000 100.0", "0.011 102.1", tolerance) == [
        "line 1: 0.000 is stored, and 0.011 is new; ±2% ±0.01 allows 0.01",
        "line 1: 100.0 is stored, and 102.1 is new; ±2% ±0.01 allows 2",
    ]


def test_whole_numbers_differ_only_where_the_mark_says_so():
    assert differences("100", "101", TWO_PERCENT)
    assert differences("100", "101", read_mark("# ±2% integers")) == []
    assert differences("100", "103", read_mark("# ±3")) == []
    assert differences("100", "104", read_mark("# ±3"))
    assert differences("4", "4.01", TWO_PERCENT) == []  # as %g prints a round value


def test_commas_group_thousands_but_not_in_a_list():
    either = read_mark("# ±2% integers")
    assert differences("1,234,567", "1,240,000", either) == []
    for stored, new in (("[100,200]", "[100,900]"), ("(1,200)", "(1,900)"), ("1,200,3", "1,900,3")):
        assert differences(stored, new, either), stored
    assert differences("[100,200]", "[101,200]", read_mark("# ±3")) == []


def test_digits_of_any_length_are_compared_or_are_text():
    assert differences("1e999999999", "1e999999998", TWO_PERCENT) is None
    assert differences("9" * 400, "8" * 400, read_mark("# ±3"))
