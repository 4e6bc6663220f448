import pytest


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path, tokenizer):
    for name in ("smollm2-135m", "minilm"):
        tokenizer(name)  # while LABKIT_HOME is still the usual one, which has the assets
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
