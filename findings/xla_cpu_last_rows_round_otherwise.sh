#!/usr/bin/env bash
# JAX 0.10.2 (installed below) and 0.12.0.1 (XLA's CPU backend): equal rows of a batch come out of one vmapped gradient with other bits
# in the last rows.
#
# The gradient of a chain of terms reads its row through slices. Vectorised over 64 or more equal rows, the last
# `B mod 4` rows (the last four where that is 0) differ from all others in the last bits: LLVM vectorises the loop over
# rows and leaves the rest to a scalar loop in which products and sums are contracted otherwise. So the place of a
# problem in its batch decides its rounding; a batch of 8 rows, or another batch size, gives the same row other bits.
#
# Seen on x86-64: rows that differ are [60, 61, 62, 63] of 64, [128, 129] of 130 and [996, 997, 998, 999] of 1000, by
# 1e-13 at values near 1e2. Nothing says so in the documentation of jax.vmap, and no flag of JAX's forbids it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'jax==0.10.2' 'numpy<3'
cat >"$folder/rows.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def chain(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


gradients = jax.jit(jax.vmap(jax.grad(chain)))
row = np.random.default_rng(0).normal(size=6)
changed = {}
for size in (8, 64, 130, 1000):
    results = np.asarray(gradients(np.broadcast_to(row, (size, 6))))
    changed[size] = np.flatnonzero((results != results[0]).any(axis=1)).tolist()
print("jax", jax.__version__, "rows that differ from row 0:", changed)
as_seen = all(changed[size] and min(changed[size]) >= size - 8 for size in (64, 130, 1000)) and not changed[8]
raise SystemExit(0 if as_seen else "equal rows have equal bits now, or others differ: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/rows.py"
