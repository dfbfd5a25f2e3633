"""Tiles are powers of two, narrower for larger problems; the same width for any batch on the CPU."""

import pytest

from jaxopt_lite.lanes import widths
from jaxopt_lite.lanes.widths import Lanes, Work, tile_width

BYTES = [0, 1, 8, 100, 1000, 5000, 10_000, 24_000, 100_000, 10**7, 10**9]


@pytest.mark.parametrize("work", Work)
@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("batch", [0, 1, 50, 1000, 10**6])
def test_widths_are_powers_of_two_that_fall_with_the_size_of_a_lane(work, platform, batch):
    widths = [tile_width(Lanes(work, "float64", lane_bytes), platform, batch) for lane_bytes in BYTES]
    assert all(width >= 1 and width & (width - 1) == 0 for width in widths)
    assert widths == sorted(widths, reverse=True)


def test_on_the_cpu_the_width_is_the_same_for_any_batch():
    for work in Work:
        for lane_bytes in BYTES:
            widths = {tile_width(Lanes(work, "float64", lane_bytes), "cpu", batch) for batch in (0, 1, 7, 1000, 10**6)}
            assert len(widths) == 1


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_a_problem_in_no_batch_has_a_lane_to_itself(platform):
    assert {tile_width(Lanes(work, "float64", 1000), platform, None) for work in Work} == {1}


def test_a_lane_of_float32_has_no_fewer_beside_it_than_one_of_float64():
    for work in Work:
        for lane_bytes in BYTES:
            double, single = (
                tile_width(Lanes(work, dtype, lane_bytes), "cpu", 1000) for dtype in ("float64", "float32")
            )
            assert single >= double


def test_a_tile_is_wide_only_while_its_states_are_small():
    wide, narrow = (
        tile_width(Lanes(Work.RANK_TWO, "float64", lane_bytes), "cpu", 1000) for lane_bytes in (5_000, 6_000)
    )
    assert (wide, narrow) == (64, 16)


def test_on_a_gpu_one_tile_holds_the_whole_batch_while_it_fits():
    for batch in (1, 100, 1000, 10**5):
        width = tile_width(Lanes(Work.RANK_ONE, "float32", 100), "gpu", batch)
        assert batch <= width <= max(4096, 2 * batch)
    assert tile_width(Lanes(Work.RANK_ONE, "float32", 4 << 20), "gpu", 10**6) * (4 << 20) <= 1 << 30


def test_on_a_gpu_all_small_batches_have_the_same_width():
    assert len({tile_width(Lanes(Work.RANK_TWO, "float32", 1000), "gpu", batch) for batch in (0, 1, 50, 4096)}) == 1


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_a_problem_with_large_arrays_has_few_lanes_beside_it(platform):
    widths = [tile_width(Lanes(Work.TERMS, "float32", 1000), platform, 1000, size) for size in BYTES]
    assert widths == sorted(widths, reverse=True) and widths[0] > 1 and widths[-1] == 1
    assert widths[0] == tile_width(Lanes(Work.TERMS, "float32", 1000), platform, 1000)


@pytest.fixture
def cpu(monkeypatch):
    """A function that says what CPU this is."""

    def pretend(about):
        class Path:
            def __init__(self, name):
                assert name == "/proc/cpuinfo"

            def read_text(self, errors):
                if about is None:
                    raise OSError
                return about

        monkeypatch.setattr(widths, "Path", Path)
        monkeypatch.setattr(widths, "_WIDE_FROM", (0,))
        forget()

    def forget():
        widths.why_not_wide.cache_clear()
        widths.compiler_options.cache_clear()

    yield pretend
    monkeypatch.undo()
    forget()


SMALL = Lanes(Work.RANK_TWO, "float64", 1000)
WIDE = (("xla_cpu_prefer_vector_width", 512),)


@pytest.mark.parametrize(
    "about, options",
    [
        ("vendor_id: AuthenticAMD\nflags: avx2 avx512f", WIDE),
        ("vendor_id: AuthenticAMD\nflags: avx2", None),
        ("vendor_id: GenuineIntel\nflags: avx2 avx512f amx_tile", WIDE),
        ("vendor_id: GenuineIntel\nflags: avx2 avx512f", None),
        ("vendor_id: HygonGenuine\nflags: avx2 avx512f amx_tile", None),
        (None, None),
    ],
    ids=["amd", "amd without", "intel", "intel of lower clock", "not measured", "unknown"],
)
def test_wide_vectors_are_for_cpus_on_which_they_were_measured(cpu, about, options):
    cpu(about)
    assert widths.compiler_options(SMALL, 0) == options


def test_wide_vectors_are_for_tiles_that_gain_by_them(cpu):
    cpu("AuthenticAMD avx512f")
    assert widths.compiler_options(SMALL, 1000) == WIDE
    assert widths.compiler_options(SMALL, 1 << 20) is None  # too few lanes
    assert widths.compiler_options(SMALL._replace(bytes=6000), 0) is None
    assert widths.compiler_options(SMALL._replace(work=Work.TERMS), 0) is None
    assert [widths.compiler_options(SMALL, 0, numbers) for numbers in (15, 16)] == [WIDE, None]
