import pytest
import torch

from labkit.errors import LabkitError
from labkit.models import precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    """The environment that the suite runs in decides nothing here."""
    monkeypatch.delenv("LABKIT_PRECISION", raising=False)


@pytest.mark.parametrize(("available", "expected"), [(True, "cuda"), (False, "cpu")])
def test_the_gpu_is_taken_where_there_is_one(monkeypatch, available, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert precision.pick_device().type == expected


def test_an_unusable_device_is_refused():
    for name in ["gpu", "cuda:99"]:
        with pytest.raises(LabkitError, match=name) as caught:
            precision.pick_device(name)
        assert 'device="cpu"' in caught.value.remedy


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_gpus_before_ampere_get_float16(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.pick_precision("auto", CUDA) == expected


@pytest.mark.parametrize("avx512", [True, False])
@pytest.mark.parametrize("amx", [True, False])
def test_a_cpu_gets_bfloat16_only_in_hardware(monkeypatch, avx512, amx):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    expected = torch.bfloat16 if avx512 or amx else torch.float32
    assert precision.pick_precision("auto", CPU) == expected


def test_a_torch_without_the_probes_means_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert precision.pick_precision("auto", CPU) == torch.float32


def test_a_named_precision_is_taken_at_its_word():
    for name in ["float32", "bfloat16"]:
        assert precision.pick_precision(name, CPU) == getattr(torch, name)


def test_float16_is_for_gpus():
    assert precision.pick_precision("float16", CUDA) == torch.float16
    with pytest.raises(LabkitError, match="CPU"):
        precision.pick_precision("float16", CPU)


def test_an_unknown_precision_is_answered_with_the_nearest():
    with pytest.raises(LabkitError, match="bf16") as caught:
        precision.pick_precision("bf16", CPU)
    assert caught.value.remedy == "Did you mean 'bfloat16'? Valid names: auto, bfloat16, float16, float32."


def test_the_environment_says_what_auto_is(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    for value, expected in {"float32": "float32", " BFloat16 ": "bfloat16", "auto": "bfloat16", "": "bfloat16"}.items():
        monkeypatch.setenv("LABKIT_PRECISION", value)
        assert precision.pick_precision("auto", CPU) == getattr(torch, expected), value
        assert precision.pick_precision("bfloat16", CPU) == torch.bfloat16, "a named precision comes first"
    for wrong, word in {"fp32": "LABKIT_PRECISION", "float16": "CPU"}.items():
        monkeypatch.setenv("LABKIT_PRECISION", wrong)
        with pytest.raises(LabkitError, match=word):
            precision.pick_precision("auto", CPU)
