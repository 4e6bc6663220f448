import contextlib
import io
import sys
from types import SimpleNamespace

import pytest

import labkit as lk
from labkit import cli
from labkit.evaluation import Evaluation
from labkit.printing import ASCII, printable


@contextlib.contextmanager
def terminal(encoding):
    """Have ``print`` write to a terminal of this encoding that raises where a character is missing."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, errors="strict") for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        yield streams


def shown(streams):
    for stream in streams:
        stream.flush()
    return "".join(stream.buffer.getvalue().decode(stream.encoding) for stream in streams)


@pytest.mark.parametrize("encoding", ["cp1252", "cp1251", "ascii", "utf-8"])
def test_all_that_labkit_prints_can_be_shown(encoding, tmp_path, monkeypatch):
    folder = tmp_path / "Größe мир 语" / "lab"
    monkeypatch.setenv("LABKIT_HOME", str(folder))
    monkeypatch.setenv("LABKIT_OFFLINE", "1")
    result = Evaluation(3, 4, (0.2, 0.9), {"heart → lung": (3, 4)}, [])
    with terminal(encoding) as streams:
        assert cli.main(["doctor"]) == 1
        assert cli.main(["fetch", "nosuch"]) == 1
        assert cli.main(["fetch", "hpo"]) == 1
        assert cli.main(["bench", "√nosuch"]) == 1
        assert cli.main(["plan", "llama-7b", "--method", "lora", "--length", "16"]) == 0
        assert cli.main(["plan", "llama-7b", "--method", "lora×"]) == 1
        print(result)
        lk.check.triage_prompt()
    text = shown(streams)
    for sign in "✗→×█":
        try:
            sign.encode(encoding)
        except UnicodeEncodeError:
            assert ASCII[sign] in text
        else:
            assert sign in text
    assert "x hpo: not fetched" in text or "✗ hpo: not fetched" in text
    assert "75.0%" in text
    if encoding == "utf-8":
        assert str(folder) in text


def test_results_and_errors_adapt_to_a_terminal_that_nobody_prepared():
    error = lk.LabkitError("It is too wet.", "Take an umbrella ✓.")
    with terminal("cp1251") as streams:
        print(error)
        print(Evaluation(1, 2, (0.1, 0.9), {"a": (1, 2)}, []))
        raise_and_print(error)
    assert "too wet.\n-> Take an umbrella v.\n" in shown(streams)
    assert str(error) == "It is too wet.\n→ Take an umbrella ✓."


def raise_and_print(error):
    try:
        raise error
    except lk.LabkitError:
        sys.excepthook(*sys.exc_info())


def test_where_nothing_is_printed_text_stays_as_it_is(monkeypatch):
    for stream in (None, object(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", stream)
        assert printable("→ \udc80") in ("→ \udc80", "→ \\udc80")


def test_an_encoding_that_python_does_not_know_changes_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(encoding="no-such-encoding"))
    text = printable("→ ü 语")
    monkeypatch.undo()
    assert text == "→ ü 语"
