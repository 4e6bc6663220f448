"""How often ``lk.compare`` tells two equal methods apart, and finds a real difference: simulated.

Each example is easy or hard for both methods, and each run (seed) is a little better or worse. Run it as
``python benchmarks/verdicts.py``; it takes a minute or two.
"""

import itertools

import numpy as np

import labkit as lk

EXAMPLES, CASES, DRAWS = 300, 300, 400
GAIN = 0.5  # in the logarithm of the odds: about 5 points


def simulated(runs, seeds, gain, rng):
    """Runs of two methods, of which the first is better by ``gain``, as texts of 0 and 1."""
    ease = rng.normal(1.5, 2, EXAMPLES)
    made = []
    for extra in (gain, 0):
        chances = 1 / (1 + np.exp(-(ease + extra + rng.normal(0, seeds, (runs, 1)))))
        made.append(["".join(map(str, run)) for run in (rng.random(chances.shape) < chances).astype(int)])
    return made


def main():
    rng = np.random.default_rng(0)
    print(f"{EXAMPLES} examples, {CASES} cases each")
    print("runs   runs' accuracies differ by   told apart: equal   better by 5 points")
    for runs, seeds in itertools.product((1, 2, 3, 5), (0, 0.1, 0.25, 0.5)):
        apart, spreads = [], []
        for gain in (0, GAIN):
            verdicts = []
            for _ in range(CASES):
                first, second = simulated(runs, seeds, gain, rng)
                verdicts.append(lk.compare(first, second, draws=DRAWS).verdict)
                spreads.append(np.std([100 * run.count("1") / EXAMPLES for run in second], ddof=min(1, runs - 1)))
            apart.append(1 - verdicts.count("undecided") / CASES)
        spread = f"{np.mean(spreads):.1f} points" if runs > 1 else "-"
        print(f"{runs:>4}   {spread:>25}   {apart[0]:>17.1%}   {apart[1]:>18.1%}")


if __name__ == "__main__":
    main()
