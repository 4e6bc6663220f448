import pytest

import labkit as lk
from labkit.training.callbacks import Progress

QUIET = {"progress": False}


@pytest.mark.parametrize(
    ("every", "steps", "measured"),
    [(1, 3, [1, 2, 3]), (2, 6, [2, 4, 6]), (3, 7, [3, 6, 7]), (10, 4, [4])],
)
def test_every_measures_on_its_steps_and_after_the_last(tiny, colours, every, steps, measured):
    seen = []

    def measure(model):
        seen.append(model)
        return {"reading": len(seen)}

    run = lk.finetune(tiny, colours, steps=steps, batch_size=2, callbacks=[lk.Every(every, measure)], **QUIET)

    assert [row["step"] for row in run.history if "reading" in row] == measured
    assert [row["reading"] for row in run.history if "reading" in row] == list(range(1, len(measured) + 1))
    assert all(model is run.model for model in seen)


def test_a_callback_that_returns_true_ends_the_run(tiny, colours):
    def enough(model, record, last):
        return record["step"] == 3

    run = lk.finetune(tiny, colours, steps=8, batch_size=2, callbacks=[enough], **QUIET)
    assert [row["step"] for row in run.history] == [1, 2, 3]
    assert not run.model.module.training


def test_callbacks_after_one_that_ends_the_run_are_told_that_it_is_over(tiny, colours):
    calls = []

    def stop(model, record, last):
        calls.append(("stop", record["step"], last))
        return True

    def look(model, record, last):
        calls.append(("look", record["step"], last))

    lk.finetune(tiny, colours, steps=1, batch_size=2, callbacks=[stop, look], **QUIET)
    lk.finetune(tiny, colours, steps=2, batch_size=2, callbacks=[stop, look], **QUIET)
    assert calls == [("stop", 1, True), ("look", 1, True), ("stop", 1, False), ("look", 1, True)]


def test_a_callback_sees_the_step_that_was_made(tiny, colours):
    records = []
    run = lk.finetune(
        tiny,
        colours,
        steps=3,
        batch_size=2,
        callbacks=[lambda model, record, last: records.append((dict(record), last))],
        **QUIET,
    )
    assert [record for record, _ in records] == run.history
    assert [last for _, last in records] == [False, False, True]


def test_the_bar_moves_with_the_steps(tiny, capsys):
    bar = Progress(total=5)
    bar(tiny, {"step": 3, "loss": 1.25}, False)  # the first step after a resume
    assert (bar.bar.n, bar.bar.total) == (3, 5)
    bar(tiny, {"step": 4, "loss": 0.5}, True)
    assert bar.bar.n == 4
    bar.say("done")
    bar.close()
    assert bar.bar.disable
    shown = capsys.readouterr().err
    assert "loss=0.500" in shown
    assert "done:  80%" in shown


def test_a_bar_is_shown_unless_it_is_turned_off(tiny, colours, capsys):
    lk.finetune(tiny, colours, steps=1, batch_size=2, progress=False)
    assert capsys.readouterr().err == ""
    lk.finetune(tiny, colours, steps=1, batch_size=2)
    assert "1/1" in capsys.readouterr().err


def test_every_needs_a_distance_of_at_least_one_step():
    with pytest.raises(lk.LabkitError, match="steps must be a whole number from 1 up"):
        lk.Every(0, lambda model: {})
