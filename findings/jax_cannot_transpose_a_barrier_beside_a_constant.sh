#!/usr/bin/env bash
# JAX 0.10.2 and 0.12.0.1: jax.linear_transpose fails on a linear function that passes its argument through
# lax.optimization_barrier together with a constant.
#
# The function x -> c x is linear in x whatever barrier x and c go through, and jax.grad of it works. Its
# jax.linear_transpose raises an AssertionError whose message is two internal objects. With a barrier
# of x alone, or one for each, it works. The documentation of jax.lax.optimization_barrier and of jax.linear_transpose
# says nothing of a limit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'jax==0.10.2' 'numpy<3'
cat >"$folder/barrier.py" <<'PYTHON'
import jax
import jax.numpy as jnp
from jax import lax

c = jnp.arange(1.0, 4.0)


def together(x):
    x, same = lax.optimization_barrier((x, c))
    return same * x


def apart(x):
    return lax.optimization_barrier(c) * lax.optimization_barrier(x)


def transposed(linear):
    try:
        return jax.linear_transpose(linear, c)(jnp.ones(3))[0].tolist()
    except AssertionError as error:
        return f"AssertionError: {error}"


gradient = jax.grad(lambda x: together(x).sum())(c).tolist()
print("jax", jax.__version__, "gradient:", gradient)
print("transposed, one barrier each:", transposed(apart))
print("transposed, one barrier for both:", transposed(together))
as_seen = gradient == transposed(apart) == c.tolist() and str(transposed(together)).startswith("AssertionError")
raise SystemExit(0 if as_seen else "the function is transposed now, or fails otherwise: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/barrier.py"
