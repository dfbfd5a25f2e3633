"""A size is rounded up to one of a few, never down."""

import pytest

from jaxopt_lite.sizes import round_up


@pytest.mark.parametrize("parts", [1, 4, 8])
@pytest.mark.parametrize("least", [1, 8, 4096])
def test_sizes_are_few_and_large_enough(parts, least):
    for size in [*range(300), *range(1 << 16, 1 << 17, 997)]:
        rounded = round_up(size, parts=parts, least=least)
        assert size <= rounded <= size * (1 + 1 / parts) + least and rounded % least == 0 and rounded > 0
        assert round_up(rounded, parts=parts, least=least) == rounded
    assert len({round_up(size, parts=parts) for size in range((1 << 16) + 1, (1 << 17) + 1)}) == parts


def test_powers_of_two():
    assert [round_up(size) for size in (0, 1, 2, 3, 4, 5, 1023, 1024, 1025)] == [1, 1, 2, 4, 4, 8, 1024, 1024, 2048]
