from dataclasses import replace

from handed_in import changed, solutions

from labkit.memory import MemoryReport

RIGHT = solutions("05")


def report(trainable=90, frozen=0, activations=300, run=True):
    return MemoryReport(trainable, frozen, 0, 2 * trainable, activations=activations, resident=1000 * run)


def pair(**parts):
    return report(**parts, run=False), report(**parts)


START, SAVING, LORA = pair(), pair(activations=50), pair(trainable=2, frozen=88, activations=280)
LEVERS = {"start": START, "checkpointing": SAVING, "accumulation": pair(activations=80), "lora": LORA}
LEVERS["best"] = "checkpointing"


def test_the_checks_are_fair(require_fair):
    require_fair({**RIGHT, "levers": LEVERS})


def test_typical_mistakes_are_explained(require_explained):
    require_explained(
        [
            ("peak_of", lambda start, changes: RIGHT["peak_of"](0, changes), "before the step is missing"),
            ("peak_of", lambda start, changes: start + sum(changes), "When was the most in use"),
            ("peak_of", lambda start, changes: start + sum(c for c in changes if c > 0), "freed before the next"),
            ("peak_of", lambda start, changes: start + max(changes), "largest allocation"),
            (
                "peak_of",
                lambda start, changes: max(start + sum(changes[: n + 1]) for n in range(len(changes))),
                "`start` bytes",
            ),
            ("peak_of", lambda start, changes: changes, "one number of bytes"),
            ("extrapolate", lambda two, three, n: n * (three - two), "own 10 GB are missing"),
            ("extrapolate", lambda two, three, n: three * n / 3, "80 / 3 times"),
            ("extrapolate", lambda two, three, n: two + n * (three - two), "in the 10 already"),
            ("extrapolate", lambda two, three, n: two + (n - 3) * (three - two), "78 further blocks"),
            ("extrapolate", lambda two, three, n: 244, "not for other numbers"),
            ("levers", changed(LEVERS, lora=None), "missing from your dictionary: lora"),
            ("levers", changed(LEVERS, start=(570, 570)), "a pair of whole reports"),
            ("levers", changed(LEVERS, start=(START[0], START[0])), "was predicted as well"),
            ("levers", changed(LEVERS, start=START[::-1]), "in the other order"),
            ("levers", changed(LEVERS, start=(START[1], START[1])), "the first report was measured"),
            ("levers", changed(LEVERS, start=(START[0], report(activations=100))), "too far apart"),
            ("levers", changed(LEVERS, start=LORA), "Start from full fine-tuning"),
            ("levers", changed(LEVERS, checkpointing=pair(trainable=2, frozen=88)), "one lever at a time"),
            ("levers", changed(LEVERS, lora=START), "all weights are trained here"),
            ("levers", changed(LEVERS, accumulation=START), "Was the lever pulled"),
            ("levers", changed(LEVERS, best="both"), "name one of"),
            ("levers", changed(LEVERS, best="lora"), "another lever less"),
        ]
    )


def test_an_answer_may_be_right_in_another_way(said):
    nearly = replace(SAVING[0], activations=51)
    for name, answer in [
        ("peak_of", lambda start, changes: max(start + sum(changes[:n]) for n in range(len(changes) + 1))),
        ("extrapolate", lambda two, three, blocks: (3 * two - 2 * three) + blocks * (three - two)),
        ("levers", changed(LEVERS, checkpointing=[nearly, SAVING[1]])),
        ("levers", changed(LEVERS, lora=pair(trainable=2, frozen=88, activations=40), best="lora")),
    ]:
        assert said(name, answer).startswith("✓")
