"""Ollama's Modelfile: its Go template writes what the tokenizer's writes."""

import json
import re
import shutil
import subprocess

import pytest

import labkit as lk
from labkit.conversations.templates import CHATML, render
from labkit.exports.modelfile import go_template, write_modelfile
from labkit.exports.probes import conversations

GO = """package main
import ("encoding/json"; "os"; "text/template")
func main() {
    var data map[string]any
    if err := json.NewDecoder(os.Stdin).Decode(&data); err != nil { panic(err) }
    made := template.Must(template.New("").Parse(data["Template"].(string)))
    if err := made.Execute(os.Stdout, data); err != nil { panic(err) }
}
"""


def data_of(messages):
    """What Ollama gives to a template: the messages, and the system's again."""
    system = "\n\n".join(turn["content"] for turn in messages if turn["role"] == "system")
    return {"System": system, "Messages": [{"Role": t["role"], "Content": t["content"]} for t in messages]}


def executed(template, data):
    """Execute the few actions of Go's templates that stand in ours."""

    def each(turns):
        said = [turns[1].replace("{{ .Role }}", turn["Role"]) for turn in data["Messages"]]
        return "".join(
            text.replace("{{ .Content }}", turn["Content"]) for text, turn in zip(said, data["Messages"], strict=True)
        )

    def default(found):
        return "" if data["System"] else found[1]

    text = re.sub(r"\{\{ if not \.System \}\}(.*?)\{\{ end \}\}", default, template, flags=re.DOTALL)
    assert text.count("{{") == 4
    return re.sub(r"\{\{ range \.Messages \}\}(.*?)\{\{ end \}\}", each, text, flags=re.DOTALL)


@pytest.mark.parametrize("template", [None, CHATML], ids=["SmolLM2", "ChatML"])
def test_the_template_writes_what_the_tokenizers_writes(small, few_tokens, monkeypatch, template):
    if template:
        monkeypatch.setattr(few_tokens, "chat_template", template)
    made = go_template(small())
    for messages in conversations():
        assert executed(made, data_of(messages)) == render(few_tokens, messages, reply=True)


def test_go_itself_writes_the_same(small, few_tokens, tmp_path):
    if not shutil.which("go"):
        pytest.skip("needs Go")
    (tmp_path / "main.go").write_text(GO, encoding="utf-8")
    for messages in conversations():
        data = json.dumps(data_of(messages) | {"Template": go_template(small())})
        ran = subprocess.run(["go", "run", tmp_path / "main.go"], input=data.encode(), capture_output=True, check=True)
        assert ran.stdout.decode() == render(few_tokens, messages, reply=True)


def test_the_file_names_weights_adapter_and_ends(small, tmp_path):
    model = small()
    write_modelfile(model, tmp_path / "Modelfile", "base model.gguf", "adapter.gguf")
    text = (tmp_path / "Modelfile").read_text(encoding="utf-8")
    assert text.startswith(
        'FROM ./base model.gguf\nADAPTER ./adapter.gguf\nTEMPLATE """{{ if not .System }}<|im_start|>system\n'
    )
    assert text.endswith('<|im_start|>assistant\n"""\nPARAMETER stop "<|im_end|>"\nPARAMETER stop "<jupyter_output>"\n')
    write_modelfile(model, tmp_path / "Modelfile")
    assert "ADAPTER" not in (tmp_path / "Modelfile").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}", "knows no Go template"),
        (CHATML.replace("{% for", "{{ '{{ x' }}{% for", 1), "knows no Go template|cannot stand in a Modelfile"),
        (None, "no chat template"),
    ],
    ids=["another", "braces", "none"],
)
def test_another_template_is_refused(small, few_tokens, monkeypatch, tmp_path, template, cause):
    monkeypatch.setattr(few_tokens, "chat_template", template)
    with pytest.raises(lk.LabkitError, match=cause):
        write_modelfile(small(), tmp_path / "Modelfile")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["", "a\nSYSTEM evil", ' a"', 'a"b.gguf'])
def test_a_name_cannot_add_a_line(small, tmp_path, name):
    with pytest.raises(lk.LabkitError, match="cannot name the file"):
        write_modelfile(small(), tmp_path / "Modelfile", name)
