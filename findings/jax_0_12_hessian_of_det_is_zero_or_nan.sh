#!/usr/bin/env bash
# JAX 0.12.0.1: the second derivatives of `jnp.linalg.det` of a 2 by 2 matrix are all zero at the zero matrix and NaN at
# a matrix of ones.
#
# The determinant a d - b c has the same second derivatives everywhere, 1 and -1, and JAX 0.10.2 says so: there the sizes
# 2 and 3 were written out as formulas and differentiated as such. In 0.12 they have the derivative rule of the larger
# sizes, which solves a linear system. The first derivative is still right, but where elimination meets a pivot of zero
# the rule cannot be differentiated again. At 3 by 3 matrices of rank 1 the Hessian can be all zeros as well, so Newton's
# method goes wrong without a word. Where rounding leaves a tiny pivot the result is right again. The determinants of
# deformations and transforms have these sizes.
#
# Seen, nonzero entries of the Hessian of det at I, at ones and at 0 of size 2: 4, NaN, 0 (true: 4, 4, 4); at a matrix of
# rank 1 of size 3: 0 (true: 36).
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
cat >"$folder/det.py" <<'PYTHON'
import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)


def written_out(m):
    if len(m) == 2:
        return m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]
    return sum(m[0, k] * (m[1, k - 2] * m[2, k - 1] - m[1, k - 1] * m[2, k - 2]) for k in range(3))


def entries(function, matrix):
    hessian = jax.hessian(function)(matrix)
    return "NaN" if jnp.isnan(hessian).any() else int(jnp.count_nonzero(hessian))


rank_1 = jnp.outer(jnp.array([1.0, 2, 3]), jnp.array([1.0, 1, 2]))
matrices = {"I": jnp.eye(2), "ones": jnp.ones((2, 2)), "0": jnp.zeros((2, 2)), "rank 1": rank_1}
found = {name: (entries(jnp.linalg.det, matrix), entries(written_out, matrix)) for name, matrix in matrices.items()}
slopes = [jnp.allclose(jax.grad(jnp.linalg.det)(m), jax.grad(written_out)(m)) for m in matrices.values()]
print("jax", jax.__version__, "nonzero entries of the Hessian of det, and of it written out:", found)
print("first derivatives are right:", all(slopes))
expected = {"I": (4, 4), "ones": ("NaN", 4), "0": (0, 4), "rank 1": (0, 36)}
as_seen = found == expected and all(slopes)
raise SystemExit(0 if as_seen else "det has other second derivatives: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/det.py"
