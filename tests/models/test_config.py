import json
import re

import pytest
from tiny import tiny_config
from transformers import AutoConfig

import labkit as lk
from labkit.models.config import blueprint_config, find_config
from labkit.models.context import UNLIMITED, longest_of


@pytest.fixture
def folder(tmp_path):
    """Makes a folder that holds nothing but a config.json."""

    def make(content):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "config.json").write_text(text)
        return tmp_path / "mine"

    return make


def test_a_published_size_is_a_blueprint():
    for name in lk.BLUEPRINTS:
        found, config = find_config(name)
        assert found == name
        assert config.to_dict() == blueprint_config(name).to_dict()


def test_heads_have_the_published_size():
    for name in lk.BLUEPRINTS:
        config = blueprint_config(name)
        assert config.hidden_size / config.num_attention_heads == (64 if name.startswith("smollm2") else 128)


def test_a_model_that_is_there_is_asked_itself(tiny, tiny_encoder):
    for model in (tiny, tiny_encoder):
        found, config = find_config(model)
        assert found == model.name
        assert config is model.module.config


def test_a_configuration_is_taken_as_it_is():
    config = tiny_config("qwen3")
    assert find_config(config) == ("qwen3", config)


def test_a_configuration_has_the_name_of_the_folder_that_it_was_read_from(folder):
    config = AutoConfig.from_pretrained(folder(tiny_config().to_dict()))
    assert find_config(config) == ("mine", config)


def test_an_asset_is_looked_up_in_the_cache(minilm):
    found, config = find_config("minilm")
    assert found.startswith("minilm")
    assert config.to_dict() == minilm.module.config.to_dict() | {"dtype": config.dtype, "transformers_version": "x"} | {
        "transformers_version": config.to_dict()["transformers_version"]
    }


@pytest.mark.parametrize("kind", ["llama", "opt", "distilbert"])
def test_a_folder_needs_no_weights(folder, kind):
    path = folder(tiny_config(kind).to_dict())
    for written in (str(path), path):
        found, config = find_config(written)
        assert found == "mine"
        assert (config.model_type, config.num_hidden_layers, config.hidden_size) == (kind, 2, 32)


def test_a_folder_in_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder(tiny_config().to_dict()).parent))
    assert find_config("~/mine")[1].model_type == "llama"


def test_an_unknown_name_lists_those_there_are():
    for name in ["llama-7", "nosuch", "./nosuch", "/nosuch/folder", "a/b/c"]:
        message = f"There is no model called {name!r}."
        with pytest.raises(lk.LabkitError, match=re.escape(message)) as caught:
            find_config(name)
        assert all(known in caught.value.remedy for known in [*lk.BLUEPRINTS, "minilm"])
        assert ("Did you mean 'llama-7b'?" in caught.value.remedy) == (name == "llama-7")


def test_a_hub_name_is_not_looked_for_offline(monkeypatch):
    monkeypatch.setenv("LABKIT_OFFLINE", "1")
    with pytest.raises(lk.LabkitError, match="configuration of nobody/nothing could not be read"):
        find_config("nobody/nothing")


@pytest.mark.parametrize(
    "content",
    [
        {"model_type": "mine", "auto_map": {"AutoConfig": "configuration_mine.MyConfig"}},
        {"model_type": "mine"},
        {"hidden_size": 3},
        [1],
        "{no JSON",
    ],
    ids=["code of its own", "unknown type", "no type", "a list", "no JSON"],
)
def test_what_cannot_be_read_is_said(folder, content):
    path = folder(content)
    (path / "configuration_mine.py").write_text("raise SystemExit('this code must not run')")
    with pytest.raises(lk.LabkitError, match=f"configuration of {path} could not be read: .*\n.*known architecture"):
        find_config(str(path))


def test_code_in_the_folder_of_a_known_architecture_is_not_run(folder):
    path = folder(tiny_config().to_dict() | {"auto_map": {"AutoConfig": "configuration_mine.MyConfig"}})
    (path / "configuration_mine.py").write_text("raise SystemExit('this code must not run')")
    assert type(find_config(str(path))[1]) is type(tiny_config())


def test_a_folder_without_a_configuration(tmp_path):
    with pytest.raises(lk.LabkitError, match=f"configuration of {tmp_path} could not be read"):
        find_config(str(tmp_path))


def test_a_model_reads_as_much_as_it_has_positions():
    for kind, tokens in [("llama", 512), ("opt", 512), ("distilbert", 512)]:
        assert longest_of(tiny_config(kind)) == tokens


def test_a_model_without_positions_has_no_limit():
    assert longest_of(AutoConfig.for_model("bloom")) == UNLIMITED
