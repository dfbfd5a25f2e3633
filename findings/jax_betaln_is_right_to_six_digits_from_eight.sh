#!/usr/bin/env bash
# JAX 0.10.2 (installed below) and 0.12.0.1: `betaln` and `beta` in float64 have only six right digits once an argument
# is 8 or more.
#
# B(1, b) is 1/b. At b = 7.999 JAX has it to the last bit. From b = 8 on it uses a series, and there it is wrong by one
# part in a million, at b = 20 still by 3e-8. One variable of that series is a/(a + b) where it should be b/(a + b), so
# the correction terms get the wrong weights. `jax.scipy.stats` takes the densities of the beta and the beta-binomial
# distribution from it, so those probabilities do not add up to 1, and derivatives are wrong by as much. In float32 the
# error hides in the rounding. SciPy is right everywhere.
#
# Seen, relative error of B(1, b) at b = 7.999, 8, 10 and 20: 2.2e-16, 9.3e-07, 4.1e-07, 3e-08; the probabilities of the
# beta-binomial distribution with n = 40, a = 9, b = 12 add up to 1 - 2.1e-07.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'jax==0.10.2' 'scipy==1.17.1' 'numpy<3'
cat >"$folder/beta.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import scipy.special
from jax.scipy.special import beta, betaln
from jax.scipy.stats import betabinom

jax.config.update("jax_enable_x64", True)


def error(function, b):
    """Relative error of B(1, b), which is 1 / b."""
    return abs(float(function(1.0, b)) * b - 1)


points = (7.999, 8.0, 10.0, 20.0)
errors, of_scipy = ([error(function, b) for b in points] for function in (beta, scipy.special.beta))
total = float(betabinom.pmf(jnp.arange(41.0), 40.0, 9.0, 12.0).sum()) - 1
slope = float(jax.grad(betaln, 1)(1.0, 8.0)) + 1 / 8
print("jax", jax.__version__, "errors of B(1, b):", dict(zip(points, errors)), "SciPy:", max(of_scipy))
print(f"beta-binomial probabilities: 1 {total:+.2g}, derivative of betaln(1, b) at 8: off by {slope:.2g}")
as_seen = errors[0] < 1e-14 and min(errors[1:]) > 1e-8 and max(of_scipy) < 1e-14 and abs(total) > 1e-9
as_seen &= abs(slope) > 1e-8
raise SystemExit(0 if as_seen else "beta functions have other errors: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/beta.py"
