import numpy as np
import pytest

from labkit.display.labels import room, spread, wrapped


def test_texts_stand_apart_inside_and_in_order():
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 12):
        for _ in range(50):
            wanted, heights = rng.uniform(-50, 150, count), rng.uniform(2, 100 / count, count)
            found = np.array(spread(wanted.tolist(), heights.tolist(), 0, 100))
            order = np.argsort(wanted)
            tops, bottoms = (found + heights / 2)[order], (found - heights / 2)[order]
            assert (bottoms[1:] >= tops[:-1] - 1e-9).all()
            assert bottoms[0] >= -1e-9
            assert tops[-1] <= 100 + 1e-9


def test_texts_that_have_room_stay_where_they_are():
    assert spread([10, 50, 90], [8, 8, 8], 0, 100) == [10, 50, 90]
    assert spread([50, 50], [10, 10], 0, 100) == [50, 60]
    assert spread([99, 98], [10, 10], 0, 100) == [95, 85]
    assert spread([], [], 0, 100) == []


def test_rows_are_high_enough_for_their_names():
    assert wrapped("a long name of a method, and\nanother line") == "a long name of a method,\nand\nanother line"
    assert room(["a", "b"], 0.5) == 1
    assert room(["a\nb\nc\nd", "b"], 0.5) == pytest.approx(2 * 4 * 0.19)
