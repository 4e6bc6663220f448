import pytest

from labkit.errors import LabkitError, unknown


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
