"""Faults of one line in `lanes` and `solvers`, each with the quick tests that must notice it."""

from tests.mutants.mutant import Mutant

__all__ = ["MUTANTS"]

LANES, SOLVERS = "jaxopt_lite/lanes/", "jaxopt_lite/solvers/"

MUTANTS = (
    Mutant(
        LANES + "engine.py",
        "    over = _in_work(state.status) & (state.steps >= limits.max_steps)",
        "    over = _in_work(state.status) & (state.steps > limits.max_steps)",
        ("tests/solvers/test_degenerate.py",),
    ),
    Mutant(
        LANES + "engine.py",
        "    here = (jnp.arange(record[0].shape[0])[:, None] == state.steps) & lanes",
        "    here = (jnp.arange(record[0].shape[0])[:, None] == state.steps + 1) & lanes",
        ("tests/lanes/test_engine.py",),
    ),
    Mutant(
        LANES + "engine.py",
        "    status = jnp.where(states.status < Status.EMPTY, states.status + _PAUSED, states.status)",
        "    status = jnp.where(states.status < Status.EMPTY, Status.WAITING, states.status)",
        ("tests/test_contract.py",),
    ),
    Mutant(
        LANES + "engine.py",
        "    slots = jnp.where(_in_work(pool.state.status), size, pool.problem)",
        "    slots = jnp.where(_in_work(pool.state.status), 0, pool.problem)",
        ("tests/lanes/test_engine.py",),
    ),
    Mutant(
        LANES + "rows.py",
        "        total += at(chosen, k)",
        "        total += 1",
        ("tests/lanes/test_rows.py",),
    ),
    Mutant(
        LANES + "rows.py",
        "    target = jnp.where(todo, jnp.cumsum(todo, dtype=jnp.int32) - 1, size)",
        "    target = jnp.where(todo, jnp.cumsum(todo, dtype=jnp.int32), size)",
        ("tests/lanes/test_rows.py",),
    ),
    Mutant(
        LANES + "arithmetic.py",
        "        column = jnp.where(rows == k, -1, column)",
        "        column = jnp.where(rows == k, 1, column)",
        ("tests/lanes/test_arithmetic.py",),
    ),
    Mutant(
        LANES + "arithmetic.py",
        "    return jnp.where(at(size, k) >= 0.1 * largest, k, row).astype(jnp.int32)",
        "    return jnp.where(at(size, k) >= 0.0 * largest, k, row).astype(jnp.int32)",
        ("tests/lanes/test_arithmetic.py",),
    ),
    Mutant(
        LANES + "arithmetic.py",
        "    t = jnp.where(tau < 0, -1, 1) / (jnp.abs(tau) + jnp.sqrt(1 + tau**2))",
        "    t = 1 / (jnp.abs(tau) + jnp.sqrt(1 + tau**2))",
        ("tests/lanes/test_arithmetic.py",),
    ),
    Mutant(
        SOLVERS + "trust_region.py",
        "    z = z + jnp.where(is_lowest & (w < 0), jnp.where(z < 0, -rest, rest), 0)",
        "    z = z + jnp.where(is_lowest & (w < 0), 0 * rest, 0)",
        ("tests/solvers/test_trust_region.py",),
    ),
    Mutant(
        SOLVERS + "trust_region.py",
        "    return jnp.where(x != 0, jnp.abs(x), jnp.where(size > 0, size, 1))",
        "    return jnp.where(x != 0, jnp.abs(x), 1)",
        ("tests/solvers/test_trust_region.py",),
    ),
    Mutant(
        SOLVERS + "pipeline.py",
        "_FURTHER = 1 / 8",
        "_FURTHER = 0",
        ("tests/solvers/test_trust_region.py",),
    ),
    Mutant(
        SOLVERS + "trust_region.py",
        "_ATTEMPTS = 2",
        "_ATTEMPTS = 1",
        ("tests/solvers/test_trust_region.py",),
    ),
    Mutant(
        LANES + "lanes_last.py",
        "        inner = called(equation, despite_rules=not self._keeps_rules)",
        "        inner = called(equation)",
        ("tests/lanes/test_lanes_last.py",),
    ),
    Mutant(
        LANES + "lanes_last.py",
        "        axes = (rank,) if row.on else tuple(range(value.ndim))",
        "        axes = (rank,) if row.on else tuple(reversed(range(value.ndim)))",
        ("tests/lanes/test_lanes_last.py",),
    ),
    Mutant(
        LANES + "fan_out.py",
        "        return jnp.concatenate([*others, last[len(last) - rest :]])",
        "        return jnp.concatenate([*others, last[:rest]])",
        ("tests/lanes/test_fan_out.py",),
    ),
    Mutant(
        LANES + "gpu/kernel.py",
        "_SHARPER = 1 - 2**-4",
        "_SHARPER = 1 + 2**6",
        ("tests/test_contract_backends.py",),
    ),
    Mutant(
        SOLVERS + "quasi_newton.py",
        "        status = jnp.where(bottomless, Status.UNBOUNDED, status)",
        "        status = jnp.where(bottomless, Status.STALLED, status)",
        ("tests/solvers/test_degenerate.py",),
    ),
    Mutant(
        SOLVERS + "quasi_newton.py",
        "        status = jnp.where(outgrown | endless, Status.WAITING, status)",
        "        status = jnp.where(endless, Status.UNBOUNDED, status)",
        ("tests/solvers/test_verdicts.py",),
    ),
    Mutant(
        SOLVERS + "quasi_newton.py",
        "        at_rest = (new.status == Status.RUNNING) & (idle >= _PATIENCE)",
        "        at_rest = jnp.zeros_like(running)",
        ("tests/solvers/test_verdicts.py",),
    ),
    Mutant(
        SOLVERS + "broyden_family.py",
        "jnp.where(dot(f, jf) < 0, -1, 1)",
        "jnp.where(dot(f, jf) > 0, -1, 1)",
        ("tests/solvers/test_verdicts.py",),
    ),
    Mutant(
        LANES + "rounding.py",
        "(_ENOUGH * error >= 1)",
        "(_ENOUGH * error * _UNITS >= 1)",
        ("tests/lanes/test_rounding.py",),
    ),
    Mutant(
        SOLVERS + "quasi_newton.py",
        "            status=jnp.where(finite, status, Status.NONFINITE_START).astype(jnp.int32),",
        "            status=jnp.where(finite, status, Status.STALLED).astype(jnp.int32),",
        ("tests/solvers/test_degenerate.py",),
    ),
    Mutant(
        SOLVERS + "pipeline.py",
        "    claimed = outcome.status == Status.CONVERGED",
        "    claimed = jnp.zeros_like(holds)",
        ("tests/test_contract_backends.py",),
    ),
    Mutant(
        SOLVERS + "broyden_family.py",
        "        low = finite & (phi < state.phi) & (phi <= state.phi * (1 - _ENOUGH * jnp.minimum(alpha, 1)))",
        "        low = finite & (phi <= state.phi * (1 - _ENOUGH * jnp.minimum(alpha, 1)))",
        ("tests/solvers/test_degenerate.py",),
    ),
    Mutant(
        SOLVERS + "pipeline.py",
        "    return (status == Status.STALLED) | (status == Status.NO_ROOT)",
        "    return status == Status.STALLED",
        ("tests/solvers/test_degenerate.py",),
    ),
    Mutant(
        SOLVERS + "pipeline.py",
        "        flags = tuple(mapped or batched for mapped, batched in zip(is_mapped, leaves_batched, strict=True))",
        "        flags = tuple(mapped for mapped, batched in zip(is_mapped, leaves_batched, strict=True))",
        ("tests/test_contract.py",),
    ),
    Mutant(
        SOLVERS + "tolerances.py",
        "        value = jnp.minimum(value, _MOST_STEPS)",
        "        value = jnp.abs(value)",
        ("tests/solvers/test_solve.py",),
    ),
    Mutant(
        SOLVERS + "implicit.py",
        "        change = -_linear(partial(fun, x), values, forward)(*d)",
        "        change = _linear(partial(fun, x), values, forward)(*d)",
        ("tests/solvers/test_implicit.py",),
    ),
    Mutant(
        SOLVERS + "implicit.py",
        "    return jnp.where(jnp.all(b == 0), 0, jnp.where(exists, x, jnp.nan))",
        "    return jnp.where(jnp.all(b == 0), 0, x)",
        ("tests/solvers/test_implicit.py",),
    ),
    Mutant(
        SOLVERS + "implicit.py",
        "    return jnp.where(jnp.all(b == 0), 0, jnp.where(exists, x, jnp.nan))",
        "    return jnp.where(exists, x, jnp.nan)",
        ("tests/solvers/test_implicit.py",),
    ),
    Mutant(
        SOLVERS + "implicit.py",
        "            x, mapped = jax.tree.map(partial(jnp.where, solved), own, other)",
        "            x, mapped = own",
        ("tests/solvers/test_implicit.py",),
    ),
    Mutant(
        SOLVERS + "lbfgs.py",
        "        return q - a * y, a",
        "        return q + a * y, a",
        ("tests/test_contract.py",),
    ),
    Mutant(
        SOLVERS + "limited_broyden.py",
        "jnp.where(lanes & (index == k), term, at(terms, k))",
        "jnp.where(lanes, term, at(terms, k))",
        ("tests/test_contract.py", "tests/solvers/test_textbook.py"),
    ),
    Mutant(
        SOLVERS + "chunks.py",
        "                index = todo[start : start + chunk]",
        "                index = todo[start : start + chunk - 1]",
        ("tests/solvers/test_chunks.py",),
    ),
    Mutant(
        SOLVERS + "limited_broyden.py",
        "        bf += u * jnp.where(usable, dot(v, f), 0)",
        "        bf += u * dot(v, s)",
        ("tests/solvers/test_textbook.py",),
    ),
    Mutant(
        SOLVERS + "bfgs.py",
        "        scale = jnp.where(first & usable, alpha * y_slope / jnp.where(yhy > 0, yhy, 1), 1)",
        "        scale = jnp.where(usable, alpha * y_slope / jnp.where(yhy > 0, yhy, 1), 1)",
        ("tests/solvers/test_textbook.py",),
    ),
    Mutant(
        LANES + "problem.py",
        "        there = alpha >= (1 - 4 * jnp.finfo(x.dtype).eps) * self.reach(x, p)",
        "        there = alpha > self.reach(x, p)",
        ("tests/solvers/test_box.py",),
    ),
    Mutant(
        SOLVERS + "bfgs.py",
        "            return h - outer(column, weight * column), p + column * (weight * (at(moved, k) - at(p, k)))",
        "            return h - outer(column, weight * column), p + column * (weight * at(moved, k))",
        ("tests/solvers/test_bounded.py",),
    ),
    Mutant(
        SOLVERS + "quasi_newton.py",
        "        long = long if most is None else long | (alpha >= most)",
        "        long = long if most is None else long | (alpha > most)",
        ("tests/solvers/test_bounded.py",),
    ),
    Mutant(
        SOLVERS + "multistart.py",
        "jnp.repeat(jnp.broadcast_to(bound, like.shape), count, axis=0)",
        "jnp.concatenate([jnp.broadcast_to(bound, like.shape)] * count)",
        ("tests/solvers/test_bounded.py",),
    ),
)
