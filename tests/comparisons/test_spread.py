import pandas as pd

import labkit as lk


def test_the_spread_is_mean_lowest_highest_and_number_of_runs():
    rows = pd.DataFrame({"name": ["qlora", "full", "qlora", "qlora"], "accuracy": [2 / 3, 0.8125, 1 / 3, 0.75]})
    table = lk.spread(rows, "name")
    assert list(table.columns) == ["mean", "min", "max", "runs"]
    assert table.index.tolist() == ["qlora", "full"]  # in the order of the rows
    assert table.loc["qlora"].tolist() == [58.3, 33.3, 75.0, 3]
    assert table.loc["full"].tolist() == [81.2, 81.2, 81.2, 1]


def test_the_spread_can_be_had_by_several_columns():
    rows = pd.DataFrame({"rank": [8, 8, 1, 1], "rslora": [True, False] * 2, "accuracy": [0.4, 0.3, 0.2, 0.1]})
    before = rows.copy()
    table = lk.spread(pd.concat([rows, rows.assign(accuracy=1.0)]), ["rank", "rslora"])
    assert table.index.tolist() == [(8, True), (8, False), (1, True), (1, False)]
    assert table.to_numpy().tolist() == [[70, 40, 100, 2], [65, 30, 100, 2], [60, 20, 100, 2], [55, 10, 100, 2]]
    pd.testing.assert_frame_equal(rows, before)
