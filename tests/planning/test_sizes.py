import pytest

import labkit as lk
from labkit.planning.sizes import GPUS, parse_size, readable

MIB = 2**20


def test_sizes_are_read():
    for text, size in [
        ("48GB", 48 * 10**9),
        ("48 gb", 48 * 10**9),
        (" 48GB ", 48 * 10**9),
        ("48 GiB", 48 * 2**30),
        ("24576MB", 24576 * 10**6),
        ("24576 MiB", 24 * 2**30),
        ("1.5GB", 15 * 10**8),
        ("2048 KiB", 2**21),
        ("1TB", 10**12),
        ("2TiB", 2**41),
        ("7000000B", 7 * 10**6),
        ("12345678", 12345678),
        (5 * 10**6, 5 * 10**6),
        (2**40, 2**40),
    ]:
        made = parse_size(text)
        assert (made, type(made)) == (size, int)


def test_cards_have_the_memory_that_nvidia_smi_shows():
    for names, mib in (
        (("T4", "Tesla T4"), 15360),
        (("L4", "nvidia l4"), 23034),
        (("RTX 4090", "rtx-4090", "NVIDIA GeForce RTX 4090"), 24564),
        (("A6000", "NVIDIA RTX A6000"), 49140),
        (("A100 40GB", "a100-40gb", "NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"), 40960),
        (("A100", "A100 80GB", "NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"), 81920),
        (("H100", "H100 80GB", "NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe"), 81559),
        (("H200", " h200 ", "NVIDIA H200"), 143771),
    ):
        for name in names:
            assert parse_size(name) == mib * MIB, name
    for card, size in GPUS.items():
        assert parse_size(card) == parse_size(card.upper()) == size
        assert 10**10 < size < 2 * 10**11
    assert parse_size("80GB") == 80 * 10**9 < parse_size("H100 80GB") < parse_size("80GiB")


def test_what_is_no_size_is_refused_with_the_names_of_cards():
    for text in ["48 GG", "", "GB", "1e9", "48,5GB", "nan", "inf", "48GB24", "GB48", "forty GB", "T"]:
        with pytest.raises(lk.LabkitError, match=r"(?s)no size or GPU called .*a100, .*v100.*as in 48GB"):
            parse_size(text)


def test_the_nearest_card_is_named():
    with pytest.raises(lk.LabkitError, match="Did you mean 'rtx4090'"):
        parse_size("rtx4900")


def test_what_no_card_can_have_is_refused():
    sizes = ("0GB", "0", "0.0001GB", "999KB", "5", "9999999TB", 5, 0, -5, 10**30, 48.5, True, None, [], ("48GB",))
    for size in sizes:
        with pytest.raises(lk.LabkitError, match=r"(?s)is no size of a .*48GB"):
            parse_size(size)


def test_sizes_are_written_in_the_unit_that_suits_them():
    for size, text in [
        (0, "0 MB"),
        (1_400_000, "1 MB"),
        (1_600_000, "2 MB"),
        (999_000_000, "999 MB"),
        (10**9, "1.0 GB"),
        (1_250_000_001, "1.3 GB"),
        (48 * 10**9, "48.0 GB"),
        (999_900_000_000, "999.9 GB"),
        (10**12, "1,000 GB"),
        (1_234_567_890_123, "1,235 GB"),
        (-2 * 10**9, "-2.0 GB"),
    ]:
        assert readable(size) == text


def test_what_is_written_can_be_read():
    for size in [10**6, 48 * 10**9, 999 * 10**6, 3 * 10**12]:
        assert parse_size(readable(size).replace(",", "")) == size
