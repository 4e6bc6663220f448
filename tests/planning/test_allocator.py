from labkit.planning.allocator import CONTEXT, allocated, reserved

MIB = 2**20


def test_the_allocator_counts_blocks_of_512_bytes():
    for size, blocks in [(0, 0), (1, 1), (511, 1), (512, 1), (513, 2), (2**30, 2**21)]:
        assert allocated(size) == 512 * blocks


def test_large_tensors_get_segments_of_2_mebibytes():
    for size, whole in [
        (0, 0),
        (1, 512),
        (MIB, MIB),
        (10 * MIB - 512, 10 * MIB - 512),
        (10 * MIB - 1, 10 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 1, 12 * MIB),
        (12 * MIB, 12 * MIB),
        (2**30 + 1, 2**30 + 2 * MIB),
    ]:
        assert reserved(size) == whole
        assert reserved(size) >= allocated(size) >= size


def test_the_context_is_within_what_is_seen_on_cards():
    assert 3 * 10**8 <= CONTEXT <= 6 * 10**8
