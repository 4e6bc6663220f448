import numpy as np
import pandas as pd
import pytest

import labkit as lk
from labkit.evaluation import Difference, bootstrap_interval, paired_bootstrap


def runs(count, total, rate, seed, hard=()):
    """Runs that get each example right with this probability, but those that are hard never."""
    rng = np.random.default_rng(seed)
    hits = rng.random((count, total)) < rate
    hits[:, list(hard)] = False
    return ["".join(map(str, run)) for run in hits.astype(int)]


def accuracies(texts):
    return np.array([[float(hit) for hit in run] for run in texts])


def brute_force(first, second, draws=4000):
    """The differences of accuracy when examples, and the runs of each method, are drawn with replacement."""
    one, two = accuracies(first), accuracies(second)
    rng = np.random.default_rng(99)
    differences = []
    for _ in range(draws):
        examples = rng.integers(one.shape[1], size=one.shape[1])
        means = [hits[rng.integers(len(hits), size=len(hits))][:, examples].mean() for hits in (one, two)]
        differences.append(means[0] - means[1])
    return np.percentile(differences, [2.5, 97.5])


FIRST, SECOND = runs(5, 60, 0.8, seed=1), runs(3, 60, 0.7, seed=2)


def test_the_interval_is_that_of_drawing_runs_and_examples_one_by_one():
    for first, second in [
        (FIRST, SECOND),
        (FIRST[:1], SECOND),
        (FIRST[:1], SECOND[:1]),
        (runs(4, 30, 0.5, 3), runs(4, 30, 0.9, 4)),
    ]:
        found = paired_bootstrap(first, second, draws=4000)
        assert found.mean == pytest.approx(accuracies(first).mean() - accuracies(second).mean())
        expected = brute_force(first, second)
        assert found.interval == pytest.approx(expected, abs=0.08 * (expected[1] - expected[0]))


def test_the_interval_of_many_examples_is_the_normal_distributions():
    first, second = runs(1, 1000, 0.85, seed=5), runs(1, 1000, 0.8, seed=6)
    differences = (accuracies(first) - accuracies(second))[0]
    reach = 1.96 * differences.std() / np.sqrt(1000)
    low, high = paired_bootstrap(first, second, draws=4000).interval
    assert (low, high) == pytest.approx((differences.mean() - reach, differences.mean() + reach), abs=0.1 * reach)


def test_the_interval_of_an_accuracy_is_the_binomial_distributions():
    (run,) = runs(1, 1000, 0.7, seed=7)
    share = run.count("1") / 1000
    reach = 1.96 * np.sqrt(share * (1 - share) / 1000)
    assert bootstrap_interval([run], draws=4000) == pytest.approx((share - reach, share + reach), abs=0.1 * reach)


def test_runs_that_differ_widen_the_interval():
    same, unlike = [FIRST[0]] * 4, ["1" * 45 + "0" * 15] * 2 + ["1" * 25 + "0" * 35] * 2
    widths = [high - low for low, high in map(bootstrap_interval, (same, unlike))]
    assert widths[1] > 1.3 * widths[0]


def test_a_method_ties_with_itself_though_its_runs_are_no_pairs():
    found = paired_bootstrap(FIRST, FIRST)
    assert found.mean == 0
    assert found.tie
    low, high = found.interval
    assert (low, high) == pytest.approx(brute_force(FIRST, FIRST), abs=0.01)
    assert low < 0 < high


def test_the_same_run_has_no_difference_however_often_it_is_there():
    assert paired_bootstrap(FIRST[:1] * 3, FIRST[:1] * 7) == Difference(0, (0, 0))


def test_changing_sides_changes_the_sign():
    there, back = (
        paired_bootstrap(FIRST[:1], SECOND[:1]),
        paired_bootstrap(SECOND[:1], FIRST[:1]),
    )
    assert there.mean == -back.mean
    assert there.interval == (-back.interval[1], -back.interval[0])


def test_changing_sides_changes_the_sign_of_several_runs_about():
    there, back = (paired_bootstrap(*pair, draws=4000) for pair in ((FIRST, SECOND), (SECOND, FIRST)))
    assert there.mean == -back.mean
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]), abs=0.02)


# A third of the examples is hard for both: accuracies vary with the draw of examples, and their difference hardly does.
def test_pairs_tell_apart_what_two_intervals_do_not():
    hard = range(0, 300, 3)
    better, worse = runs(3, 300, 0.99, 8, hard), runs(3, 300, 0.92, 9, hard)
    (low, _), (_, high) = map(bootstrap_interval, (better, worse))
    assert low < high
    found = paired_bootstrap(better, worse)
    assert not found.tie
    widths = [high - low for low, high in map(bootstrap_interval, (better, worse))]
    assert found.interval[1] - found.interval[0] < 0.7 * np.hypot(*widths)


def test_draws_depend_on_the_seed_alone():
    one, same, other = (paired_bootstrap(FIRST, SECOND, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other
    assert bootstrap_interval(FIRST) == bootstrap_interval(FIRST)


def test_a_column_of_a_table_can_be_compared():
    table = pd.DataFrame({"hits": [*FIRST, *SECOND], "label": ["one"] * 5 + ["two"] * 3})
    one, two = (table[table["label"] == label]["hits"] for label in ("one", "two"))
    assert paired_bootstrap(one, two) == paired_bootstrap(FIRST, SECOND)
    assert bootstrap_interval(two) == bootstrap_interval(SECOND)


def test_intervals_contain_the_truth_about_as_often_as_they_say():
    covered = 0
    for seed in range(100):
        found = paired_bootstrap(runs(1, 200, 0.75, [seed, 1]), runs(1, 200, 0.7, [seed, 2]), draws=400)
        covered += found.interval[0] <= 0.05 <= found.interval[1]
    assert covered >= 88


def test_two_methods_tie_where_the_interval_holds_0():
    for interval, tie in [
        ((0.01, 0.05), False),
        ((-0.05, -0.01), False),
        ((-0.01, 0.05), True),
        ((0, 0.05), True),
        ((-0.05, 0), True),
    ]:
        assert Difference(0.03, interval).tie is tie


def test_a_difference_says_what_it_means():
    for difference, text in [
        (Difference(0.0312, (0.0104, 0.052)), "+3.1 points, 95% interval +1.0 to +5.2: better"),
        (Difference(-0.0312, (-0.052, -0.0104)), "-3.1 points, 95% interval -5.2 to -1.0: worse"),
        (Difference(0.0312, (-0.0104, 0.052)), "+3.1 points, 95% interval -1.0 to +5.2: a tie"),
    ]:
        assert str(difference) == text


def test_runs_of_other_examples_are_no_pairs():
    for first, second, lengths in [
        (["01"], ["010"], "2, 3"),
        (["01", "0"], ["01"], "1, 2"),
        ([""], [""], "0"),
        ([], [], "no"),
    ]:
        with pytest.raises(lk.LabkitError, match=rf"The runs have {lengths} examples.*\n.*same model and task"):
            paired_bootstrap(first, second)


def test_an_accuracy_needs_runs_of_the_same_examples():
    for unequal in [["01", "010"], [""], []]:
        with pytest.raises(lk.LabkitError, match="cannot be compared in pairs"):
            bootstrap_interval(unequal)


def test_what_is_no_list_of_runs_is_refused():
    for first, second in [([], ["01"]), (["01"], []), ("0110", "1100")]:
        with pytest.raises(lk.LabkitError):
            paired_bootstrap(first, second)
