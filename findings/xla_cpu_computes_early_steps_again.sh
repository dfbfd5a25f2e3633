#!/usr/bin/env bash
# JAX 0.10.2 (installed below) and 0.12.0.1: of steps in straight lines XLA's CPU backend computes the early ones again for
# the later ones, so that code and work grow with the square of their number.
#
# Twice as many steps of the midpoint rule for two hares-and-foxes equations, and the gradient of what comes out, should
# take twice as many multiplications. But each fused loop computes for itself what it reads, back to the start, and the
# gradient reads every step. A step's results stacked to a vector, of which the next step takes the entries, are enough
# for that; no step is costly. `jax.lax.optimization_barrier` around each stage does not help in 0.10.2, where the
# compiler removes it first; in 0.12.0.1 it does. A `lax.scan` over the steps is not concerned.
#
# Seen, multiplications in the gradient of 1, 2, 4 and 8 steps: written 18, 34, 66, 130; compiled 35, 88, 236, 703; with
# barriers, in 0.10.2 the same, and in 0.12.0.1 19, 39, 79, 159.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'jax==0.10.2' 'numpy<3'
cat >"$folder/steps.py" <<'PYTHON'
import jax
import jax.numpy as jnp


def end(p, steps, kept):
    def rate(y):
        return jnp.stack([y[0] * (1 - y[1]), y[1] * (y[0] - p[2])])

    y, h = p[:2], 0.1
    for _ in range(steps):
        middle = kept(y + h / 2 * rate(y))
        y = kept(y + h * rate(middle))
    return y


def multiplications(steps, kept):
    gradient = jax.grad(lambda p: jnp.sum(end(p, steps, kept) ** 2))
    program = jax.jit(jax.vmap(gradient, in_axes=-1, out_axes=-1)).lower(jnp.ones((3, 64)))
    return program.as_text().count("stablehlo.multiply"), program.compile().as_text().count(" multiply(")


def plain(y):
    return y


print("jax", jax.__version__, "multiplications written and compiled:")
counts = {}
for name, kept in (("as it is", plain), ("with barriers", jax.lax.optimization_barrier)):
    counts[name] = [multiplications(steps, kept) for steps in (1, 2, 4, 8)]
    print(name, counts[name])
as_seen = all(counts[name][-1][1] > 4 * counts[name][-1][0] for name in counts)
raise SystemExit(0 if as_seen else "steps are computed about as often as they are written: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/steps.py"
