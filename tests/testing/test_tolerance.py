import re
from decimal import Decimal

import pytest

from labkit.testing.tolerance import Tolerance, read_mark, tolerance_of

TWO_PERCENT = read_mark("# ±2%")


def test_the_forms_of_a_tolerance():
    for comment, share, amount, integers in (
        ("# ±2%", "0.02", "0", False),
        ("#±0.5%", "0.005", "0", False),
        ("# ±0.05", "0", "0.05", False),
        ("# ±3", "0", "3", True),
        ("# ±3.0", "0", "3", False),
        ("# ±2% ±0.01", "0.02", "0.01", False),
        ("# ±0.01 ±2%", "0.02", "0.01", False),
        ("# ±2% integers", "0.02", "0", True),
    ):
        assert read_mark(comment) == Tolerance(Decimal(share), Decimal(amount), integers), comment
    for comment in ("# ±", "# ±x", "# ±2% ±3%", "# ±1 ±2", "# ±1..2", "# ±2% of the loss", "# ±-1"):
        with pytest.raises(ValueError, match=f"{re.escape(repr(comment))} is not a tolerance. Write # ±2%"):
            read_mark(comment)


def test_a_cell_names_its_tolerance_in_any_comment():
    assert tolerance_of("print(1.5)") is None
    assert tolerance_of("print('# ±2%')") is None
    assert tolerance_of("# a ± b\nprint(1.5)") is None
    for source in (
        "# ±2%\nprint(1.5)",
        "print(1.5)  # ±2%",
        "%matplotlib inline\nprint(1.5)  # ±2%",
        "! ls\n# ±2%",
        "%time f()  # ±2%",
        "f(7\n  % 2)  # ±2%",
    ):
        assert tolerance_of(source) == TWO_PERCENT, source
    assert tolerance_of("print(1)  # ±2%\nprint(2)  # ±2%") == TWO_PERCENT
    with pytest.raises(ValueError, match="several: # ±2%, # ±3"):
        tolerance_of("print(1)  # ±2%\nprint(2)  # ±3")
    with pytest.raises(ValueError, match="not a tolerance"):
        tolerance_of("print(1)  # ±two")
