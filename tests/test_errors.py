import math

import numpy as np
import pytest
import torch

from labkit.errors import LabkitError, first_line, require_count, require_number, unknown

NO_NUMBERS = (None, True, False, "3", "", [3], (3,), 3j, np.True_, np.array(3), torch.tensor(3), 10**5000, object())


def test_the_first_line_of_what_an_exception_says():
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(ValueError()) == first_line(ValueError(" \n")) == "ValueError"


def test_an_error_shows_the_cause_and_then_the_remedy():
    error = LabkitError("The tank is empty.", "Fill it.")
    assert str(error) == "The tank is empty.\n→ Fill it."
    assert (error.cause, error.remedy) == ("The tank is empty.", "Fill it.")


def test_an_unknown_name_is_answered_with_the_nearest_and_all_valid_ones():
    error = unknown("colour", "gren", ["red", "green", "blue"], " Or mix one.")
    assert error.cause == "There is no colour called 'gren'."
    assert error.remedy == "Did you mean 'green'? Valid names: blue, green, red. Or mix one."


@pytest.mark.parametrize("name", ["xylophone", ""])
def test_a_name_like_no_other_gets_no_guess(name):
    assert unknown("colour", name, ["red", "green"]).remedy == "Valid names: green, red."


def test_a_count_is_a_whole_number_within_its_bounds():
    for value in (1, 7, np.int64(7), np.uint8(7), 2**31 - 1):
        made = require_count("steps", value)
        assert (made, type(made)) == (value, int)
    assert require_count("seed", 0, low=0) == 0
    for value in (*NO_NUMBERS, 0, -1, 3.0, np.float64(3), math.nan, math.inf, 10**30):
        with pytest.raises(LabkitError, match=r"^steps must be a whole number from 1 (up|to 2147483647), not .*\n→ "):
            require_count("steps", value)
    with pytest.raises(LabkitError, match=r"bits must be a whole number from 2 to 8, not 9\.\n→ Try 8\."):
        require_count("bits", 9, low=2, high=8, remedy="Try 8.")


def test_a_number_is_finite_and_within_its_bounds():
    for value in (1, 0.5, np.float32(0.5), np.float64(1e-3), np.int64(2)):
        made = require_number("rate", value, above=0)
        assert (made, type(made)) == (value, int if value >= 1 else float)
    assert require_number("warmup", 0, low=0, below=1) == 0
    for value in (*NO_NUMBERS, math.nan, math.inf, -math.inf, np.float32("nan"), 0, -1e-9):
        with pytest.raises(LabkitError, match=r"^rate must be above 0 and finite, not .*\n→ "):
            require_number("rate", value, above=0)
    for value in (*NO_NUMBERS, -0.1, 1, 1.5, math.nan):
        with pytest.raises(LabkitError, match=r"^warmup must be from 0 to below 1, not "):
            require_number("warmup", value, low=0, below=1)
    with pytest.raises(LabkitError, match="decay must be from 0 up and finite, not -1"):
        require_number("decay", -1, low=0)


def test_what_is_no_name_at_all_is_answered_with_the_valid_ones():
    for name in (None, 3, [], torch.ones(2)):
        assert "Valid names: green, red." in str(unknown("colour", name, ["red", "green"]))
