"""The model card says what is known, and no more."""

from dataclasses import replace

import yaml

from labkit.assets.manifest import get_asset
from labkit.evaluation.results import Forgetting
from labkit.exports.card import card
from labkit.exports.subject import Subject


def front(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_it_holds_what_was_measured_and_what_is_known(made, run):
    text = (made[0].folder / "README.md").read_text(encoding="utf-8")
    assert front(text) == {
        "base_model": "tiny",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["finetune-labkit", "lora"],
    }
    low, high = made[2].interval
    assert f"| colours | 66.7% | {low:.1%} to {high:.1%} | 3 |" in text
    assert "3.000 before, 3.250 after, a rise of +0.250" in text
    assert "| rank | 4 |" in text
    assert f"| trained numbers | {run.trained_parameters:,} |" in text
    for proof in made[0].proofs.values():
        assert str(proof) in text


def test_the_courses_models_and_data_bring_their_licences(run):
    known = replace(run, task="triage", base=run.base | {"name": "smollm2-135m"})
    text = card(Subject(known.model, known), {}, {}, None)
    assert front(text)["license"] == get_asset("smollm2-135m").licence.lower()
    for words in (get_asset("smollm2-135m").source, get_asset("hpo").source, get_asset("hpo").licence):
        assert words in text


def test_what_is_not_known_is_not_invented(run):
    text = card(Subject(run.model), {}, {}, None)
    assert "license" not in front(text)
    assert text.count("not known to labkit") == 2  # the licence of the base model, and the training data
    assert "No evaluation was given" in text
    assert "| accuracy |" not in text


def test_hostile_names_stay_text(run, made, tmp_path):
    name = 'x"\n---\nlicense: mit\n# <script>alert(1)</script> | `a` | [b](c)'
    hostile = replace(run, task=name, base=run.base | {"name": name})
    text = card(
        Subject(hostile.model, hostile),
        {},
        {name: made[2]},
        Forgetting(1, 2),
    )
    assert front(text)["base_model"] == name
    assert "license" not in front(text)
    body = text.split("---\n", 2)[2]
    assert "<script>" not in body.replace("\\<script\\>", "")
    here = replace(run, base=run.base | {"name": str(tmp_path)})
    assert str(tmp_path) not in card(Subject(here.model, here), {}, {}, None)
