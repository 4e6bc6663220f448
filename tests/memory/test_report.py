import pytest

from labkit.memory import KINDS, MemoryReport

MODULES = {"": 5, "model.layers.0.mlp": 7, "model.layers.0.attention": 1, "model.layers.1.mlp": 2, "lm_head": 4}


@pytest.fixture
def report():
    return MemoryReport(
        trainable=4_000_000,
        frozen=2_000_000,
        quantized=1_000_000,
        optimizer=8_000_000,
        gradients=1_500_000,
        activations=500_000,
        logits=250_000,
        temporaries=30_000,
        resident=900_000_000,
    )


def test_the_peak_is_the_sum_of_all_kinds(report):
    assert report.peak == 17_280_000


def test_the_parameters_are_the_weights_of_all_three_kinds(report):
    assert report.parameters == 7_000_000


def test_megabytes_are_millions_of_bytes_in_the_order_of_the_kinds(report):
    assert list(report.megabytes()) == list(KINDS)
    assert list(report.megabytes().values()) == [4.0, 2.0, 1.0, 8.0, 1.5, 0.5, 0.25, 0.03]


def test_modules_are_counted_with_what_they_are_part_of():
    for depth, expected in [
        (0, {"": 19}),
        (1, {"": 5, "model": 10, "lm_head": 4}),
        (2, {"": 5, "model.layers": 10, "lm_head": 4}),
        (3, {"": 5, "model.layers.0": 8, "model.layers.1": 2, "lm_head": 4}),
        (4, MODULES),
        (9, MODULES),
    ]:
        assert MemoryReport(modules=MODULES).by_module(depth) == expected


def test_an_empty_report_is_of_nothing():
    report = MemoryReport()
    assert report.peak == report.parameters == report.resident == 0
    assert report.timeline == ()
    assert report.by_module(3) == report.phases == {}


def test_long_parts_are_left_out_when_a_report_is_printed():
    text = repr(MemoryReport(trainable=12, modules=MODULES, timeline=((1,) * 8,) * 100, phases={"loss": 3}))
    assert "trainable=12" in text
    assert not any(part in text for part in ("mlp", "timeline", "loss"))
