import torch
from handed_in import changed, solutions

import labkit as lk

SIZES = (32, 64, 128, 256, 512)
WEIGHT = torch.randn(64, 1024, generator=torch.Generator().manual_seed(0))


def errors(kind="nf4", sizes=SIZES, factor=1.0):
    return {s: factor * lk.relative_error(WEIGHT, lk.quantize(WEIGHT, kind, s).dequantize()) for s in sizes}


BLOCKS = {"weight": WEIGHT, "errors": errors(), "chosen": 256}
WITHIN = [size for size, error in BLOCKS["errors"].items() if error <= 1.1 * BLOCKS["errors"][64]]


def test_the_checks_are_fair(require_fair):
    assert max(WITHIN) == 256  # the mistakes below need a smaller and a larger size
    require_fair({**solutions("03"), "block_sizes": BLOCKS})


def test_typical_mistakes_are_explained(require_explained):
    require_explained(
        [
            ("absmax_int8", lambda x: (torch.round(128 * x / x.abs().max()), x.abs().max() / 128), "127"),
            ("absmax_int8", lambda x: (127 * x / x.abs().max(), x.abs().max() / 127), "round"),
            ("absmax_int8", lambda x: x, "two things"),
            ("absmax_int8", lambda x: (torch.round(x / 0.5), 0.5), "largest number"),
            ("bits_per_parameter", lambda size: 4, "code alone"),
            ("bits_per_parameter", lambda size: 36, "whole block"),
            ("bits_per_parameter", lambda size: 32 / size, "on top"),
            ("block_sizes", changed(BLOCKS, weight="layer 15"), "hand in the layer's weight"),
            ("block_sizes", changed(BLOCKS, errors=list(errors().values())), "a dictionary from block size"),
            ("block_sizes", changed(BLOCKS, errors=errors(sizes=(64, 128, 256))), "64, 128, 256 don't span enough"),
            ("block_sizes", changed(BLOCKS, errors=errors(sizes=(32, 64, 128, 256))), "32, 64, 128, 256 don't span"),
            ("block_sizes", changed(BLOCKS, errors=errors(factor=100)), "percentages"),
            ("block_sizes", changed(BLOCKS, errors=errors("int4")), "these are int4's"),
            ("block_sizes", changed(BLOCKS, errors=errors(factor=WEIGHT.norm().item())), "these are differences"),
            ("block_sizes", changed(BLOCKS, errors=errors(factor=1.2)), "the check measures"),
            ("block_sizes", changed(BLOCKS, chosen=32), "the smallest error, and costs the most bits"),
            ("block_sizes", changed(BLOCKS, chosen=64), "a larger size is"),
            ("block_sizes", changed(BLOCKS, chosen=512), "not among your sizes"),
        ]
    )


def test_an_answer_may_be_right_in_another_way(said):
    for name, answer in [
        ("absmax_int8", lambda x: [(x * 127 / x.abs().max()).round().to(torch.int8), (x.abs().max() / 127).item()]),
        ("bits_per_parameter", lambda block_size: (4 * block_size + 32) / block_size),
        ("block_sizes", changed(BLOCKS, errors={size: round(error, 4) for size, error in errors().items()})),
        ("block_sizes", changed(BLOCKS, errors=errors(sizes=(64, 128, 512, 1024)), chosen=128)),
    ]:
        assert said(name, answer).startswith("✓")
