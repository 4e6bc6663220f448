"""The command ``labkit serve``, as a process of its own."""

import os
import signal
import socket
import subprocess
import sys

import pytest
import torch

for package in ("fastapi", "prometheus_client", "uvicorn", "openai", "httpx"):
    pytest.importorskip(package, reason='needs the extras serve and test: pip install -e ".[serve,test]"')

from asking import ASK, client  # noqa: E402

import labkit as lk  # noqa: E402
from labkit import cli  # noqa: E402


@pytest.fixture
def folders(base, both, tmp_path):
    """A model and an adapter on it, as folders."""
    base.module.save_pretrained(tmp_path / "tiny")
    base.tokenizer.save_pretrained(tmp_path / "tiny")
    tuned = lk.LoRA(rank=4).apply(lk.load_model(str(tmp_path / "tiny"), precision="float32"))
    for parameter in tuned.trainable().values():
        parameter.data.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.1)
    (tmp_path / "law").mkdir()
    lk.LoRA(rank=4).save(tuned, tmp_path / "law")
    return tmp_path / "tiny", tmp_path / "law", tuned


def test_the_command_serves_until_it_is_interrupted(folders):
    base, law, tuned = folders
    name, environment = str(base), os.environ | {"LABKIT_PRECISION": "float32", "LABKIT_API_KEY": "sesame"}
    command = [sys.executable, "-m", "labkit", "serve", name, "--adapter", f"law={law}", "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline()
        assert said.startswith(f"{name}, law at http://127.0.0.1:"), process.communicate()[1]
        assert "asks for the API key" in said
        options = f"--served-model-name {name} --enable-lora --max-loras 1 --max-lora-rank 8 --lora-modules law={law}"
        assert process.stdout.readline().endswith(f": vllm serve {base} {options}\n")
        ai = client(said.split(" at ")[1].split("/v1")[0], "sesame")
        assert [model.id for model in ai.models.list()] == [name, "law"]
        answer = ai.chat.completions.create(model="law", messages=ASK, max_tokens=6, temperature=0)
        assert answer.choices[0].message.content == lk.generate(tuned, [ASK], 6)[0].text
        process.send_signal(signal.SIGINT)
        _, problems = process.communicate(timeout=60)
        assert (process.returncode, problems) == (0, "")
    finally:
        process.kill()


def test_what_cannot_be_served_is_named_with_status_2(folders, capsys):
    base, law, _ = folders
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        for arguments, reason in (
            ([str(base), "--port", port], f"Nothing can listen at 127.0.0.1:{port}: "),
            ([str(base), "--port", "0", "--adapter", "law=nosuch"], "nosuch"),
            ([str(base), "--port", "0", "--adapter", f"law={base}"], "holds no adapter"),
            ([str(base), "--port", "0", "--adapter", f"{base}={law}"], "cannot name an adapter"),
            (["nosuch", "--port", "0"], "There is no model called 'nosuch'"),
            ([str(law), "--port", "0"], "holds no weights"),
            (["--adapter", "nameless"], "--adapter nameless is not NAME=FOLDER"),
            (["--adapter", "a=x", "--adapter", "a=y"], "--adapter a=y gives a name twice"),
            (["--queue", "0"], "queue must be a whole number from 1 up"),
            (["--host", "0.0.0.0"], "no API key is set"),
        ):
            assert cli.main(["serve", *arguments]) == 2, arguments
            seen = capsys.readouterr()
            assert seen.err.startswith("labkit: ")
            assert reason in seen.err
            assert not seen.out
