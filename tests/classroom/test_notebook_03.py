import torch

RIGHT = {
    "absmax_int8": lambda x: (torch.round(127 * x / x.abs().max()), x.abs().max() / 127),
    "bits_per_parameter": lambda block_size: 4 + 32 / block_size,
}


def test_the_checks_are_fair(require_fair):
    require_fair(RIGHT)


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
        ]
    )
