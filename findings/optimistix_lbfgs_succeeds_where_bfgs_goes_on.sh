#!/usr/bin/env bash
# optimistix 0.1.0: LBFGS and NonlinearCG with tolerances of 1e-8 are `successful` with one of two unknowns as it was at
# the start.
#
# A curve a (1 - exp(-b x)) is fitted to nine of its own points with a = 240, b = 5e-4, from (500, 1e-4). BFGS ends at
# them, to eight digits. The other two end where only b has moved, at a sum of squares of 6.5, and say `successful`: they
# stop where a step changes the unknowns and the sum by little, and a step that was cut back in the line search does that
# anywhere. How small the gradient is plays no part. LBFGS, started again where it ended, says so again without a step
# of any size. The same tolerances mean another thing for each method.
#
# Seen: BFGS: successful, sum 5.3e-21; LBFGS: successful, a = 500.0, sum 6.5; NonlinearCG: successful, a = 500.0, sum 6.5.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'optimistix==0.1.0' 'jax==0.10.2' 'numpy<3'
cat >"$folder/fits.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import optimistix

jax.config.update("jax_enable_x64", True)
x = np.array([50.0, 100, 150, 200, 300, 400, 500, 600, 700])
y = 240 * (1 - np.exp(-5e-4 * x))


def cost(unknowns, _):
    a, b = unknowns
    return jnp.sum((a * (1 - jnp.exp(-b * x)) - y) ** 2)


def fit(method, start):
    solution = optimistix.minimise(cost, method(rtol=1e-8, atol=1e-8), start, max_steps=10_000, throw=False)
    return bool(solution.result == optimistix.RESULTS.successful), solution.value, float(cost(solution.value, None))


start = jnp.array([500.0, 1e-4])
found = {m.__name__: fit(m, start) for m in (optimistix.BFGS, optimistix.LBFGS, optimistix.NonlinearCG)}
found["LBFGS again"] = fit(optimistix.LBFGS, found["LBFGS"][1])
for name, (successful, value, least) in found.items():
    print(name, "successful:", successful, "a, b:", value.tolist(), "sum:", f"{least:.2g}")
stuck = [found[name] for name in ("LBFGS", "NonlinearCG", "LBFGS again")]
as_seen = found["BFGS"][0] and found["BFGS"][2] < 1e-12
as_seen &= all(successful and abs(value[0] - 500) < 1e-3 and least > 6 for successful, value, least in stuck)
raise SystemExit(0 if as_seen else "they end elsewhere, or say so: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/fits.py"
