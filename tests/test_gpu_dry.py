"""``make gpu`` in its dry form: the program that a CUDA card will run, on the CPU with tiny shapes."""

import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

import labkit as lk
from labkit.quant.linear import Linear4bit
from labkit.storage import cache

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import gpu
import gpu_equality
import gpu_memory
import gpu_models

pytestmark = pytest.mark.usefixtures("one_thread")
STATUSES = {"ok", "skipped", "failed"}


def run(path, *only, seconds=1000):
    """Return the exit status and what was written."""
    status = gpu.main(["--dry", "--seconds", str(seconds), "--out", str(path), "--only", *only])
    return status, json.loads(path.read_text(encoding="utf-8"))


def check_schema(record):
    assert record.keys() == {"version", "dry", "date", "commit", "changed", "python", "versions", "card", "sections"}
    assert record["version"] == gpu.VERSION == 1
    assert record["versions"].keys() == set(gpu.PACKAGES)
    assert record["versions"]["torch"]
    assert record["sections"].keys() <= set(gpu.SECTIONS)
    for name, section in record["sections"].items():
        assert section["status"] in STATUSES, name
        assert section["seconds"] >= 0
        assert isinstance(section["results"], dict)
        assert ("why" in section) == (section["status"] == "skipped"), name
        assert ("error" in section) == ("at" in section) == (section["status"] == "failed"), name
    if not record["dry"]:
        assert record["card"].keys() == {"name", "capability", "memory", "driver", "cuda"}


def test_all_sections_run_on_a_cpu(tmp_path, monkeypatch):
    # Other tests compare prediction and measurement of every method: two that can and one that cannot will do.
    few = {name: gpu_memory.methods()[name] for name in ("head", "lora", "prefix")}
    monkeypatch.setattr(gpu_memory, "methods", lambda: few)
    status, record = run(tmp_path / "out.json", *[name for name in gpu.SECTIONS if name != "tests"])

    check_schema(record)
    assert status == 0
    found = {name: section["results"] for name, section in record["sections"].items()}
    states = {name: section["status"] for name, section in record["sections"].items()}
    assert states == dict.fromkeys(states, "ok") | {"paged": "skipped"}
    assert "where there is nothing to move" in record["sections"]["paged"]["why"]
    assert all(
        row["codes_differ"] == row["scales_gap"] == row["restored_differ"] == 0 for row in found["quantizer"]["rows"]
    )
    assert len(found["quantizer"]["rows"]) >= 4
    assert [row["method"] for row in found["memory"]["rows"]] == ["lora", "prefix", "lora"]
    assert [row["method"] for row in found["memory"]["skipped"]] == ["head"]
    assert abs(found["memory"]["allocated_worst"]) < 0.01
    assert abs(found["ledger"]["allocated_worst"]) < 0.01
    (step,) = found["huge"]["steps"]
    assert step["rank"] == 8
    assert abs(step["allocated_error"]) < 0.02
    speeds = {row["name"]: row["tokens_per_second"] for row in found["speed"]["rows"]}
    assert speeds.keys() >= {"labkit", "Trainer"}
    assert all(speed > 0 for speed in speeds.values())
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_section_that_fails_is_recorded_and_the_next_ones_run(tmp_path, monkeypatch, capsys):
    def ends_early(bench, found):
        found["rows"] = [1, 2]
        raise ZeroDivisionError("no such luck")

    def looks(bench, found):
        found["seen"] = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["sections"]["quantizer"]

    def skips(bench, found):
        raise gpu.Skipped("not here")

    sections = {"quantizer": (ends_early, 9), "qlora": (looks, 9), "paged": (skips, 9), "speed": (looks, 0)}
    monkeypatch.setattr(gpu, "SECTIONS", gpu.SECTIONS | sections)
    status, record = run(tmp_path / "out.json", *sections)

    check_schema(record)
    assert status == 1
    failed = record["sections"]["quantizer"]
    assert (failed["status"], failed["error"]) == ("failed", "ZeroDivisionError: no such luck")
    assert failed["at"].startswith("test_gpu_dry.py:")
    assert failed["results"] == {"rows": [1, 2]}
    assert record["sections"]["qlora"]["results"]["seen"] == failed  # written before the next section began
    assert record["sections"]["paged"]["why"] == "not here"
    assert record["sections"]["speed"]["why"] == "no time left"
    assert "ZeroDivisionError: no such luck" in capsys.readouterr().out


def test_a_quantizer_that_is_off_by_one_code_is_a_failure(tmp_path, monkeypatch):
    real = gpu_equality.quantize

    def wrong(*args, **settings):
        found = real(*args, **settings)
        found.codes[7] ^= 1
        return found

    monkeypatch.setattr(gpu_equality, "quantize", wrong)
    status, record = run(tmp_path / "out.json", "quantizer")
    assert status == 1
    assert "labkit and bitsandbytes differ" in record["sections"]["quantizer"]["error"]
    assert record["sections"]["quantizer"]["results"]["rows"]


def test_a_case_that_fails_does_not_keep_others_from_being_measured(tmp_path, monkeypatch):
    class Broken(lk.LoRA):
        def apply(self, model, *, inplace=False):
            if model.device.type != "meta":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().apply(model, inplace=inplace)

    monkeypatch.setattr(gpu_memory, "methods", lambda: {"broken": Broken(), "lora": lk.LoRA()})
    monkeypatch.setattr(
        gpu_memory, "cases", lambda bench: [("tiny", torch.float32, n, False, (1, 9, 0)) for n in ("broken", "lora")]
    )
    status, record = run(tmp_path / "out.json", "memory")
    results = record["sections"]["memory"]["results"]
    assert status == 1
    assert [row["method"] for row in results["rows"]] == ["lora"]
    assert results["failed"][0]["error"] == "OutOfMemoryError: CUDA out of memory"
    assert record["sections"]["memory"]["error"].startswith("RuntimeError: 1 of 2 cases failed; OutOfMemoryError")


def test_marked_tests_are_counted(tmp_path):
    mark = "@pytest.mark." + "cuda\n"  # in two parts, or this file would count as marked
    cases = {"test_a": "pass", "test_b": "pytest.skip('no card')", "test_c": "pass"}
    text = "import pytest\n" + "".join(f"{mark}def {name}(): {body}\n" for name, body in cases.items())
    (tmp_path / "test_some.py").write_text(f"{text}def test_unmarked(): assert False\n", encoding="utf-8")
    bench, found = gpu.Bench(torch.device("cpu"), dry=True), {}
    gpu.cuda_tests(bench, found, tmp_path)
    assert found == {"passed": 2, "failed": 0, "skipped": 1}

    (tmp_path / "test_other.py").write_text(f"import pytest\n{mark}def test_d(): assert False\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="1 tests failed"):
        gpu.cuda_tests(bench, found, tmp_path)
    assert found == {"passed": 2, "failed": 1, "skipped": 1}
    with pytest.raises(gpu.Skipped, match="no test"):
        gpu.cuda_tests(bench, found, tmp_path / "none")


def test_random_models_are_stored_as_real_ones_are():
    config = gpu_models.config_of("tiny")
    for quantization in (None, lk.Quantization(backend="labkit"), lk.Quantization(backend="labkit", double=False)):
        model = gpu_models.random_model(config, torch.bfloat16, torch.device("cpu"), quantization)
        tensors = [*model.module.parameters(), *model.module.buffers()]
        assert all(tensor.device.type == "cpu" for tensor in tensors)
        assert model.module.lm_head.weight is model.module.model.embed_tokens.weight
        expected = LlamaForCausalLM(config).model.rotary_emb.inv_freq
        torch.testing.assert_close(model.module.model.rotary_emb.inv_freq, expected)
        layer = model.module.model.layers[0].mlp.up_proj
        if quantization:
            assert isinstance(layer, Linear4bit)
            weight = layer.quantized.dequantize(torch.float32)
        else:
            assert layer.weight.dtype == torch.bfloat16
            weight = layer.weight.float()
        assert weight.std().item() == pytest.approx(64**-0.5, rel=0.2)


def test_without_a_card_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpu.main([]) == 2
    assert "--dry" in capsys.readouterr().err


def test_what_is_stored_has_the_name_of_its_card():
    assert gpu.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    for path in (cache.course_data() / "results").glob("gpu-*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        check_schema(record)
        assert not record["dry"]
        assert path.stem == f"gpu-{gpu.slug(record['card']['name'])}"
