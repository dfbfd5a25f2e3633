"""Tiles are powers of two, narrower for larger problems; the same width for any batch on the CPU."""

import jax
import jax.numpy as jnp
import pytest

from jaxopt_lite.lanes import tiles
from jaxopt_lite.lanes.tiles import Lanes, Work, tile_width

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

        monkeypatch.setattr(tiles, "Path", Path)
        monkeypatch.setattr(tiles, "_WIDE_FROM", (0,))
        forget()

    def forget():
        tiles._wide_vectors_pay.cache_clear()
        tiles.compiler_options.cache_clear()

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
        ("vendor_id: GenuineIntel\nflags: avx2 avx512f", None),
        (None, None),
    ],
    ids=["measured", "without", "not measured", "unknown"],
)
def test_wide_vectors_are_for_cpus_on_which_they_were_measured(cpu, about, options):
    cpu(about)
    assert tiles.compiler_options(SMALL, 0) == options


def test_wide_vectors_are_for_tiles_that_gain_by_them(cpu):
    cpu("AuthenticAMD avx512f")
    assert tiles.compiler_options(SMALL, 1000) == WIDE
    assert tiles.compiler_options(SMALL, 1 << 20) is None  # too few lanes
    assert tiles.compiler_options(SMALL._replace(bytes=6000), 0) is None
    assert tiles.compiler_options(SMALL._replace(work=Work.TERMS), 0) is None


def inner(x):
    return jax.lax.fori_loop(0, 3, lambda _, x: jnp.sin(x) * 2, x)


def _is_native(jaxpr, width: int, columns: int) -> bool:
    return tiles.why_not_native(jaxpr, width, 0, columns) is None


@pytest.mark.parametrize(
    "fun, native",
    [
        (lambda x: jnp.sum(x**2), True),
        (inner, True),
        (lambda x: jax.nn.logsumexp(jax.nn.softplus(x[1:] / x[:-1])), True),
        (lambda x: x @ x, False),
        (lambda x: jnp.sort(x), False),
        (lambda x: x[jnp.argsort(x)], False),
        (lambda x: jax.lax.cond(x[0] > 0, lambda x: jnp.cumsum(x), lambda x: x, x), False),
        (lambda x: jax.jit(lambda x: jnp.linalg.solve(jnp.eye(4) + x, x))(x), False),
    ],
    ids=["elementwise", "loop", "functions", "matrix product", "sort", "gather", "in a branch", "in a call"],
)
def test_what_the_compiler_gives_to_a_library_is_not_native(fun, native):
    jaxpr = jax.make_jaxpr(fun)(jnp.ones(4)).jaxpr
    assert _is_native(jaxpr, 64, 1) is native


def test_large_arrays_and_reductions_are_not_native():
    small, large = (jax.make_jaxpr(lambda x: x + 1)(jnp.ones(n)).jaxpr for n in (10, 10_000))
    assert _is_native(small, 64, 10) and not _is_native(large, 64, 1)
    sums = jax.make_jaxpr(jnp.sum)(jnp.ones(30)).jaxpr
    assert _is_native(sums, 64, 1) and not _is_native(sums, 64, 30)


def test_a_loop_computes_the_same_as_one_native_call():
    loop = lambda x: jax.lax.while_loop(lambda x: jnp.any(x < 100), lambda x: x * 2 + 1, x)
    jaxpr = jax.make_jaxpr(lambda x: x * 2)(jnp.ones(())).jaxpr
    native = tiles.as_one_native_call(loop, jaxpr, 8, 8, 1)
    assert native is not loop
    assert jax.jit(native)(jnp.ones(8)).tolist() == loop(jnp.ones(8)).tolist()
