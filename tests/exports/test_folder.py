"""What happens to the folder of an export: nothing is half-written, and only exports are replaced."""

import errno
import json
import sys

import pytest

import labkit as lk
from labkit.exports import FORMATS, child
from labkit.extras import MissingPackageError


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def answered(made, monkeypatch):
    """No process is started: the run's exports are the same each time, and so is what it would answer."""
    monkeypatch.setattr(child, "ask", lambda jobs, *rest: {name: made[1][name] for name in jobs})


FAILURES = {
    "the disk is full": (OSError(errno.ENOSPC, "No space left on device"), lk.LabkitError, "The disk is full"),
    "tokenizers says so": (Exception("No space left on device (os error 28)"), lk.LabkitError, "The disk is full"),
    "a read-only disk": (OSError(errno.EROFS, "Read-only file system"), lk.LabkitError, "No files can be written"),
    "a config that contradicts itself": (ValueError("bad temperature\nmore"), lk.LabkitError, "bad temperature"),
    "the stop button": (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    "a fault of a package": (RuntimeError("oops"), RuntimeError, "oops"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_write_that_fails_leaves_the_old_files_and_no_others(run, old, monkeypatch, failure):
    raised, expected, words = FAILURES[failure]
    before = contents(old)

    def half(subject, folder):
        (folder / "half").write_text("and no more")
        raise raised

    monkeypatch.setitem(FORMATS, "peft", half)
    for folder, overwrite in ((old, True), (old.parent / "new", False)):
        with pytest.raises(expected, match=words):
            lk.export(run, folder, "peft", overwrite=overwrite)
        assert contents(old) == before
        assert [*old.parent.iterdir()] == [old]


def test_an_export_replaces_an_export_and_nothing_else(run, old, answered, tmp_path):
    with pytest.raises(lk.LabkitError, match="exists already"):
        lk.export(run, old)
    lk.export(run, old, "peft", overwrite=True)
    assert {path.name for path in old.iterdir()} == {"README.md", "peft", "run.json"}
    (old / "peft" / "notes.txt").write_text("mine")
    with pytest.raises(lk.LabkitError, match=r"peft/notes\.txt, which labkit did not write"):
        lk.export(run, old, overwrite=True)
    assert (old / "peft" / "notes.txt").read_text() == "mine"
    saved = run.save(tmp_path / "run")
    before = contents(saved)
    with pytest.raises(lk.LabkitError, match="not the folder of a labkit export"):
        lk.export(run, saved, overwrite=True)
    assert contents(saved) == before


def test_what_cannot_be_exported_is_refused_before_anything_is_written(run, tiny_encoder, tiny, tmp_path):
    folder = tmp_path / "none"
    prefixed = lk.methods.PrefixTuning(virtual_tokens=2).apply(tiny)
    cases = (
        (tiny_encoder, {}, "is an encoder"),
        (prefixed, {}, "cannot be exported"),
        (tiny, {}, "has no adapter"),
        ("tiny", {}, "neither a run nor a model"),
        (run, {"formats": ("safetensor",)}, "no format called 'safetensor'"),
        (run, {"formats": ()}, "no format"),
        (run, {"evaluations": {"colours": 0.5}}, "is no evaluation"),
        (run, {"evaluations": 0.5}, "has no names"),
        (run, {"forgetting": 0.5}, "lk.forgetting"),
    )
    for given, options, words in cases:
        with pytest.raises(lk.LabkitError, match=words):
            lk.export(given, folder, **options)
    with lk.disable_adapter(run.model), pytest.raises(lk.LabkitError, match="disabled"):
        lk.export(run.model, folder)
    for name in ("../up", "a|b", "con", ""):
        with pytest.raises(lk.LabkitError):
            lk.export(run, name)
    assert not [*tmp_path.iterdir()]


def test_a_process_that_dies_fails_the_export(run, old, monkeypatch, tmp_path):
    program = tmp_path / "dies.py"
    program.write_text("import sys\nsys.exit('Killed')")
    monkeypatch.setattr(child.plain, "__file__", str(program))
    with pytest.raises(lk.LabkitError, match="ended with code 1: Killed"):
        lk.export(run, old, "safetensors", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"dies.py", "old"}


def test_the_record_lists_the_files_and_the_proofs(made):
    record = json.loads((made[0].folder / "run.json").read_text())
    assert record["format"] == "labkit export"
    assert {*record["proofs"]} == {"safetensors", "peft"}
    assert {*record["files"]} == {path.as_posix() for path in contents(made[0].folder)}


def test_a_missing_package_is_named_before_anything_is_written(run, tmp_path, monkeypatch):
    for name, package, extra in (("peft", "peft", "peft"), ("gguf-f16", "xllamacpp", "llama")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingPackageError) as caught:
            lk.export(run, tmp_path / "none", name)
        assert f".[{extra}]" in caught.value.remedy
    assert not [*tmp_path.iterdir()]
