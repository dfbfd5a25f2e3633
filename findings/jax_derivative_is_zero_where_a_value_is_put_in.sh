#!/usr/bin/env bash
# JAX 0.12.0.1: the derivative of `jax.scipy.stats.cauchy.ppf` at the median is 0, and so is that of
# `jax.scipy.special.spence` at 1.
#
# The true derivatives are pi and -1, and a billionth to the side JAX has them. At the point itself the functions put in
# the known value, 0, by a `where`, and a constant has no slope. So Newton's method and least squares that begin there,
# or quantiles at 0.1, 0.5 and 0.9, get a finite number that is wrong. `isf` is the same. `cauchy.ppf` has been so since
# 0.12, where its tails were made accurate; in 0.10.2 it is right. Between 1 and 2 `jax.grad` of `spence` is NaN, while
# `jax.jvp` is right there. The documentation says nothing of derivatives.
#
# Seen: cauchy.ppf at 0.5 and beside it: 0.0, 3.14159; isf: 0.0, -3.14159; spence at 1 and beside it: 0.0, -1.0.
# JAX 0.12 needs Python 3.12 or later: the variable PYTHON names one where none of these names does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=
for candidate in ${PYTHON:-} python3 python3.13 python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
"${python:?no Python of 3.12 or later was found}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'jax==0.12.0.1' 'numpy<3'
cat >"$folder/slopes.py" <<'PYTHON'
import math

import jax
from jax.scipy.special import spence
from jax.scipy.stats import cauchy

jax.config.update("jax_enable_x64", True)
cases = {"cauchy.ppf": (cauchy.ppf, 0.5, math.pi), "cauchy.isf": (cauchy.isf, 0.5, -math.pi), "spence": (spence, 1.0, -1)}
as_seen = True
print("jax", jax.__version__, "derivatives at a point, beside it, and true:")
for name, (function, point, true) in cases.items():
    at, beside = (float(jax.grad(function)(x)) for x in (point, point - 1e-9))
    print(name, at, beside, true)
    as_seen &= at == 0 and abs(beside - true) < 1e-6
backward, forward = jax.grad(spence)(1.5), jax.jvp(spence, (1.5,), (1.0,))[1]
print("spence at 1.5, grad and jvp:", backward, forward, "true:", math.log(1.5) / (1 - 1.5))
as_seen &= math.isnan(backward) and abs(forward - math.log(1.5) / (1 - 1.5)) < 1e-9
raise SystemExit(0 if as_seen else "these derivatives are others: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/slopes.py"
