"""How often a verdict on random equations in random units is false: `python -m benchmarks.verdicts [--quick]`.

Polynomials, rational functions, exponentials and systems of two equations, in units from 1e-8 to 1e8 and shifted. Each
has a root. The judge evaluates them at the answers in longer arithmetic, and adds up the sizes of their terms.

- A success is false where the residual is larger than the tolerance plus 16 times what one rounding of each term does.
- A failure is false where the residual is no larger than one rounding of each term makes it.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxopt_lite as jol
from benchmarks import harness
from benchmarks.timing import use_cpu

_LANES, _FEW = 250_000, 10_000  # of each family
_AT_ONCE = 50_000
_SUCCESS, _FAILURE = 16, 1  # roundings of each term


def polynomial(xp, z, c):
    return [[c[k] * z[0] ** k for k in range(6)]]


def rational(xp, z, c):
    return [[(c[1] + c[2] * z[0] + c[3] * z[0] ** 2) / (1 + c[4] ** 2 + c[5] ** 2 * z[0] ** 2), c[0]]]


def exponential(xp, z, c):
    return [[c[1] * xp.exp(c[2] * z[0]), c[3] * xp.exp(-c[4] * z[0]), c[5] * z[0], c[0]]]


def system(xp, z, c):
    return [[c[1] * z[0] ** 2, c[2] * z[1], c[0]], [c[3] * z[0] * z[1], c[4] * z[0], c[5] * z[1] ** 3, c[6]]]


FAMILIES = {"polynomials": (polynomial, 1, (0,)), "rational functions": (rational, 1, (0,)),
            "exponentials": (exponential, 1, (0,)), "systems of two": (system, 2, (0, 6))}  # fmt: skip


def residual(xp, family, x, args):
    """The values, their terms, and z = (x - shift) / unit."""
    c, shift, unit, scale = args
    z = [(x[k] - shift[k]) / unit[k] for k in range(len(x))]
    terms = [[scale * term for term in equation] for equation in family(xp, z, c)]
    return [sum(equation[1:], equation[0]) for equation in terms], terms


def problems(name: str, count: int, dtype) -> tuple[np.ndarray, tuple]:
    """Starts and arguments. The constant of each equation is such that a random point is nearly a root."""
    family, n, constants = FAMILIES[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    c = rng.normal(size=(7, count))
    unit, scale = 10 ** rng.uniform(-8, 8, (n, count)), 10 ** rng.uniform(-8, 8, count)
    shift = unit * 10 ** rng.uniform(-2, 4, (n, count)) * rng.choice([-1, 0, 1], (n, count))
    at = rng.normal(size=(n, count))
    for place, equation in zip(constants, family(np, at, c), strict=True):
        c[place] -= sum(equation[1:], equation[0])
    x0 = shift + unit * (at + rng.normal(size=(n, count)))
    cast = lambda a: np.ascontiguousarray(a.T).astype(dtype)  # noqa: E731
    return cast(x0), (cast(c), cast(shift), cast(unit), cast(scale))


def judged(name: str, x: np.ndarray, args: tuple) -> tuple[np.ndarray, np.ndarray]:
    """For each answer and equation, the size of the residual, and of one rounding of each of its terms and of x."""
    family, n, _ = FAMILIES[name]
    longer = [np.longdouble(a).T for a in args]
    at = list(np.longdouble(x).T)
    values, terms = residual(np, family, at, longer)
    u = np.longdouble(np.finfo(x.dtype).eps) / 2
    sizes = [sum(map(np.abs, equation)) for equation in terms]
    for k in range(n):  # rounding of x, and of the difference in z
        step = u * (np.abs(at[k]) + np.abs(longer[1][k]))
        moved, _ = residual(np, family, [a + step * (j == k) for j, a in enumerate(at)], longer)
        sizes = [size + np.abs(after - before) / u for size, after, before in zip(sizes, moved, values, strict=True)]
    return np.abs(np.array(values)), u * np.array(sizes)


def judge(name: str, count: int, dtype) -> dict:
    family, _, _ = FAMILIES[name]
    x0, args = problems(name, count, dtype)
    fun = lambda x, args: jnp.stack(residual(jnp, family, x, args)[0])  # noqa: E731
    tally = {"solved": 0, "at_precision": 0, "false_successes": 0, "false_failures": 0}
    atol = {"float64": 1e-9, "float32": 1e-5}[np.dtype(dtype).name]
    for first in range(0, count, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        some = jax.tree.map(lambda leaf, part=part: leaf[part], args)
        found = jax.device_get(jol.root(fun, x0[part], some, solver=jol.Broyden(atol=atol, rtol=0.0)))
        with np.errstate(all="ignore"):
            value, rounding = judged(name, found.x, some)
        known = np.isfinite(value).all(0) & np.isfinite(rounding).all(0)
        tally["solved"] += int(found.success.sum())
        tally["at_precision"] += int((found.status == jol.Status.AT_PRECISION).sum())
        wrong = (value > atol + _SUCCESS * rounding).any(0) | ~known
        tally["false_successes"] += int((found.success & wrong).sum())
        right = (value <= _FAILURE * rounding).all(0) & known
        tally["false_failures"] += int((~found.success & right).sum())
    return {"family": name, "dtype": np.dtype(dtype).name, "lanes": count, **tally}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few of each family; nothing is saved")
    options = parser.parse_args()
    load = harness.check_load()
    use_cpu()
    count = _FEW if options.quick else _LANES
    rows = [judge(name, count, dtype) for dtype in ("float64", "float32") for name in FAMILIES]
    table = Table(title="verdicts, of random equations in random units", title_justify="left")
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "), justify="left" if heading in ("family", "dtype") else "right")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else value for value in row.values()))
    Console(width=130).print(table)
    if not options.quick:
        print("wrote", harness.save("verdicts", rows, load))


if __name__ == "__main__":
    main()
