import numpy as np
import pandas as pd
import pytest

import labkit as lk
from labkit.evaluation import Comparison, bootstrap_interval, wilson
from labkit.evaluation.bootstrap import over_examples, over_runs, variance_of_runs
from labkit.evaluation.significance import holm


def runs(count, total, rate, seed, hard=()):
    """Runs that get each example right with this probability, but those that are hard never."""
    rng = np.random.default_rng(seed)
    hits = rng.random((count, total)) < rate
    hits[:, list(hard)] = False
    return ["".join(map(str, run)) for run in hits.astype(int)]


def accuracies(texts):
    return np.array([[float(hit) for hit in run] for run in texts])


FIRST, SECOND = runs(5, 60, 0.8, seed=1), runs(3, 60, 0.7, seed=2)


def test_what_seeds_add_follows_students_t_with_welchs_degrees_of_freedom():
    """The quantiles are those of printed tables. Single answers add little noise to runs of 10,000 examples."""
    steady = ["1" * 7000 + "0" * 3000] * 3
    three, five = (["1" * right + "0" * (10_000 - right) for right in range(6000, 8001, step)] for step in (1000, 500))
    for first, second, quantile in [
        (three, steady, 4.303),  # 2 degrees of freedom
        (three, three, 2.776),  # 4
        (five, steady, 2.776),  # 4
        (five, five, 2.306),  # 8
    ]:
        hits = [accuracies(first), accuracies(second)]
        error = np.sqrt(sum(method.mean(axis=1).var(ddof=1) / len(method) for method in hits))
        low, high = np.quantile(over_runs(hits, 50_000, seed=0), [0.025, 0.975])
        assert (low, high) == pytest.approx((-quantile * error, quantile * error), rel=0.05)


def test_runs_that_differ_by_the_noise_of_answers_alone_add_nothing_on_average():
    """The estimate may be below 0, which counts as 0: so the average of what is not cut off is looked at."""
    rng = np.random.default_rng(3)
    plain, seeds = [], []
    for _ in range(400):
        hits = (rng.random((3, 200)) < 0.7).astype(float)
        plain.append(hits.mean(axis=1).var(ddof=1) / 3)
        seeds.append(variance_of_runs(hits))
    assert np.mean(plain) == pytest.approx(0.7 * 0.3 / 200 / 3, rel=0.1)
    assert np.mean(seeds) < 0.5 * np.mean(plain)
    assert variance_of_runs(hits[:1]) == 0


def test_the_interval_of_many_examples_is_the_normal_distributions():
    first, second = runs(1, 1000, 0.85, seed=5), runs(1, 1000, 0.8, seed=6)
    differences = (accuracies(first) - accuracies(second))[0]
    reach = 1.96 * differences.std() / np.sqrt(1000)
    low, high = lk.compare(first, second, draws=4000).interval
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


def test_a_method_is_not_told_apart_from_itself_though_its_runs_are_not_pairs():
    unlike = ["1" * 45 + "0" * 15] * 2 + ["1" * 25 + "0" * 35] * 2
    for texts in (FIRST, unlike):
        found = lk.compare(texts, texts)
        assert (found.difference, found.verdict) == (0, "undecided")
    low, high = found.interval
    assert low < 0 < high


def test_the_same_run_has_no_difference_however_often_it_is_there():
    assert lk.compare(FIRST[:1] * 3, FIRST[:1] * 7) == Comparison(0, (0, 0), 1, (3, 7), paired=True)


def test_changing_sides_changes_the_sign():
    there, back = (
        lk.compare(FIRST[:1], SECOND[:1]),
        lk.compare(SECOND[:1], FIRST[:1]),
    )
    assert there.difference == -back.difference
    assert there.interval == (-back.interval[1], -back.interval[0])


def test_changing_sides_changes_the_sign_of_several_runs_about():
    there, back = (lk.compare(*pair, draws=4000) for pair in ((FIRST, SECOND), (SECOND, FIRST)))
    assert there.difference == -back.difference
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]), abs=0.02)


# A third of the examples is hard for both: accuracies vary with the draw of examples, and their difference hardly does.
def test_pairs_tell_apart_what_two_intervals_do_not():
    hard = range(0, 300, 3)
    better, worse = runs(3, 300, 0.99, 8, hard), runs(3, 300, 0.92, 9, hard)
    (low, _), (_, high) = map(bootstrap_interval, (better, worse))
    assert low < high
    found = lk.compare(better, worse)
    assert found.verdict == "better"
    widths = [high - low for low, high in map(bootstrap_interval, (better, worse))]
    assert found.interval[1] - found.interval[0] < 0.7 * np.hypot(*widths)


def test_draws_depend_on_the_seed_alone():
    one, same, other = (lk.compare(FIRST, SECOND, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other
    assert bootstrap_interval(FIRST) == bootstrap_interval(FIRST)


def test_a_draw_counts_answers_exactly_so_that_ties_are_ties_on_every_processor():
    methods = [np.random.default_rng(seed).integers(0, 2, (5, 601)) for seed in range(6)]

    for hits, drawn in zip(methods, over_examples(methods, draws=2000, seed=0), strict=True):
        answers = np.rint(drawn * hits.size)
        assert np.array_equal(drawn, answers / hits.size)


def test_a_column_of_a_table_can_be_compared():
    table = pd.DataFrame({"hits": [*FIRST, *SECOND], "label": ["one"] * 5 + ["two"] * 3})
    one, two = (table[table["label"] == label]["hits"] for label in ("one", "two"))
    assert lk.compare(one, two) == lk.compare(FIRST, SECOND)
    assert bootstrap_interval(two) == bootstrap_interval(SECOND)


def test_a_difference_says_what_it_means():
    for difference, text in [
        (Comparison(0.0312, (0.0104, 0.052), 0.01, (3, 3), True), "+3.1 points, 95% interval +1.0 to +5.2: better"),
        (Comparison(-0.0312, (-0.052, -0.0104), 0.01, (3, 3), True), "-3.1 points, 95% interval -5.2 to -1.0: worse"),
        (Comparison(0.0312, (-0.0104, 0.052), 0.2, (3, 3), True), "+3.1 points, 95% interval -1.0 to +5.2: undecided"),
    ]:
        assert str(difference) == text
    assert "not paired" in str(Comparison(0.03, (0.01, 0.05), 0.01, (3, 3), False))
    assert "a single run" in str(Comparison(0.03, (0.01, 0.05), 0.01, (1, 3), True))


# Simulated methods


def simulated(count, total, rng, gain=0.0, seeds=0.15):
    """Runs of two methods on the same examples: some examples are hard for both, and seeds differ."""
    hard = rng.normal(1.5, 2, total)

    def hits(extra):
        chances = 1 / (1 + np.exp(-(hard + extra + rng.normal(0, seeds, (count, 1)))))
        return ["".join(map(str, run)) for run in (rng.random((count, total)) < chances).astype(int)]

    def accuracy(extra):
        return (1 / (1 + np.exp(-(hard + extra)))).mean()

    return hits(gain), hits(0), accuracy(gain) - accuracy(0)


def test_equal_methods_are_told_apart_in_at_most_five_of_a_hundred_cases():
    """However much seeds differ. Of 200 cases, 10 are expected; more than 18 are less likely than one in a hundred."""
    rng = np.random.default_rng(4)
    for seeds in (0.1, 0.5):
        verdicts = [lk.compare(*simulated(3, 200, rng, seeds=seeds)[:2], draws=400).verdict for _ in range(200)]
        assert 200 - verdicts.count("undecided") <= 18


def test_a_real_difference_is_found_and_its_interval_holds_it():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(100):
        better, worse, truth = simulated(5, 300, rng, gain=1.0)
        result = lk.compare(better, worse, draws=400)
        found.append((result.verdict, result.interval[0] <= truth <= result.interval[1]))
    assert sum(held for _, held in found) >= 93
    assert sum(verdict == "better" for verdict, _ in found) >= 95
    assert not [verdict for verdict, _ in found if verdict == "worse"]


def test_single_runs_of_seeds_that_differ_mislead():
    """With one run each, what seeds do looks like what methods do: the reason for several seeds."""
    rng = np.random.default_rng(6)
    verdicts = [lk.compare(*simulated(1, 300, rng, seeds=0.5)[:2], draws=400).verdict for _ in range(100)]
    assert 100 - verdicts.count("undecided") > 15


# Many comparisons


def test_holm_corrects_as_in_a_worked_example():
    """statsmodels' multipletests(…, method="holm") gives the same."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_table_compares_every_pair_and_corrects_for_their_number():
    rng = np.random.default_rng(7)
    names = [f"method {number}" for number in range(6)]
    equal = {name: runs(5, 200, 0.8, [7, number]) for number, name in enumerate(names)}
    table = lk.compare(equal | {"best": runs(5, 200, 0.98, rng)})
    assert len(table) == 21
    assert list(table["verdict"][table["second"] == "best"]) == ["worse"] * 6
    assert set(table["verdict"][table["second"] != "best"]) == {"undecided"}
    row = table.iloc[0]
    alone = lk.compare(equal["method 0"], equal["method 1"])
    assert (row["points"], row["low"], row["high"]) == tuple(
        round(100 * x, 1) for x in (alone.difference, *alone.interval)
    )
    assert row["p (Holm)"] >= alone.p


def test_all_can_be_compared_with_one_alone():
    rates = {"a": 0.8, "b": 0.9, "c": 0.8, "d": 0.7}
    names = {name: runs(3, 200, rate, [3, number]) for number, (name, rate) in enumerate(rates.items())}
    every, some = lk.compare(names), lk.compare(names, against="b")
    assert len(every) == 6
    assert some[["first", "second"]].to_numpy().tolist() == [["a", "b"], ["c", "b"], ["d", "b"]]
    both = every[(every["first"] == "b") & (every["second"] == "d")]
    assert some["points"].iloc[2] == -both["points"].item()
    assert some["p (Holm)"].iloc[2] <= both["p (Holm)"].item()
    with pytest.raises(lk.LabkitError, match="no method called 'x'"):
        lk.compare(names, against="x")


def test_draws_are_enough_for_the_correction_of_66_pairs():
    best, worst = runs(1, 200, 0.98, 8), runs(1, 200, 0.8, 9)
    assert lk.compare(best, worst).p * 66 < 0.05


def test_of_equal_methods_a_table_rarely_tells_any_apart():
    false = 0
    for seed in range(30):
        table = lk.compare({str(i): runs(1, 150, 0.8, [seed, i]) for i in range(5)}, draws=1000)
        false += set(table["verdict"]) != {"undecided"}
    assert false <= 4


# What may be passed


def test_evaluations_are_compared(tiny_encoder, colours):
    before = lk.evaluate(tiny_encoder, colours)
    assert before.hits.count("1") == before.correct
    assert len(before.hits) == before.total
    found = lk.compare(before, [before, before])
    assert (found.difference, found.runs, found.verdict) == (0, (1, 2), "undecided")


def test_rows_without_hits_are_compared_as_proportions():
    rows = pd.DataFrame({"correct": [56, 56], "total": [70, 70]})
    others = pd.DataFrame({"correct": [48, 48], "total": [80, 80], "hits": [None, None]})
    found = lk.compare(rows, others)
    assert not found.paired
    # Newcombe, 1998, table II, column (a), method 10.
    assert found.interval == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert found.verdict == "better"
    assert lk.compare(rows, rows).p == 1
    assert bootstrap_interval(rows) == wilson(56, 70)


def test_runs_of_other_examples_are_not_compared():
    for first, second, message in [
        (["01"], ["010"], "The runs have 2, 3 test examples"),
        (["01", "0"], ["01"], "The first method has runs of 1, 2 examples"),
        (["01"], [""], "The second method has runs that are not texts"),
        ([], ["01"], "The first method has no runs"),
        ("0110", "1100", "one text of 0 and 1"),
    ]:
        with pytest.raises(lk.LabkitError, match=message):
            lk.compare(first, second)
    for alone in [["01"], {"one": ["01"]}]:
        with pytest.raises(lk.LabkitError, match="Two methods are compared, or several by name"):
            lk.compare(alone)
    for unequal in [["01", "010"], [""], []]:
        with pytest.raises(lk.LabkitError, match="The method has"):
            bootstrap_interval(unequal)
