#!/usr/bin/env bash
# JAX 0.10.2 (installed below) and 0.12.0.1: `x[jnp.int8(-1)]` of an array of 300 is `x[43]`, and of one of 200 `x[0]`.
#
# A negative index has the length added to it, in the index's own type, and there it wraps round: 300 is 44 in int8. So
# the index of the last element, which fits, reads another one, without a word; `jnp.take` fills or reads the same wrong
# one, `lax.dynamic_slice` too, while `jnp.take_along_axis` is right. The same index in an array of one element raises an
# OverflowError that names neither the index nor the array. NumPy reads the last element each time. That an index beyond
# the end is clamped is documented; this one is not beyond it.
#
# Seen: x[-1] of 100: 99; of 200: 0; of 300: 43; take_along_axis: 99, 199, 299; of an array of indices: OverflowError.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'jax==0.10.2' 'numpy<3'
cat >"$folder/last.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

last, lasts = jnp.int8(-1), jnp.array([-1], "int8")


def listed(x):
    try:
        return x[lasts].tolist()
    except OverflowError:
        return "OverflowError"


def read(size):
    x = jnp.arange(size)
    in_slice = jax.lax.dynamic_slice(x, (last,), (1,))
    return int(x[last]), int(in_slice[0]), int(jnp.take_along_axis(x, lasts, 0)[0]), listed(x), int(np.arange(size)[-1])


found = {size: read(size) for size in (100, 200, 300)}
print("jax", jax.__version__, "x[last], dynamic_slice, take_along_axis, x[[last]], NumPy:", found)
expected = {100: (99, 99, 99, [99], 99), 200: (0, 0, 199, "OverflowError", 199),
            300: (43, 43, 299, "OverflowError", 299)}
raise SystemExit(0 if found == expected else "narrow indices read other elements: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/last.py"
