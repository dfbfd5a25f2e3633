#!/usr/bin/env bash
# JAX 0.10.2 (installed below) and 0.12.0.1: `set_xla_metadata(inlineable="false")` around a call of a jitted function also
# keeps XLA's CPU backend from fusing anything in that function.
#
# The attribute asks that a call stay a call. JAX writes it on the call and on every operation that is traced inside the
# context, so also on those of the called function, and XLA fuses no operation that has it. A chain of elementwise
# operations that was one loop becomes six, with arrays between them. The context set back inside, by
# `with set_xla_metadata(inlineable=None)`, keeps the call and the fusion. Metadata of other names change nothing, and
# neither the documentation of set_xla_metadata nor the compiler says a word.
#
# Seen: loops without metadata: 1; inlineable="false": 6; set back inside: 2; another name: 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'jax==0.10.2' 'numpy<3'
cat >"$folder/fusions.py" <<'PYTHON'
import re

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

x = jnp.ones(100_000)


def chain(x):
    y = jnp.sin(x) * 2
    return jnp.where(y > x, y, x - 1) * x + y


def set_back(x):
    with set_xla_metadata(inlineable=None):
        return chain(x)


def loops(function, **metadata):
    def call(x):
        with set_xla_metadata(**metadata):
            z = jax.jit(function)(x)
        return z + 1

    return len(re.findall(r" fusion\(", jax.jit(call).lower(x).compile().as_text()))


found = {
    "none": loops(chain), "inlineable": loops(chain, inlineable="false"),
    "set back inside": loops(set_back, inlineable="false"), "another name": loops(chain, mine="false"),
}
print("jax", jax.__version__, "fused loops:", found)
as_seen = found["none"] == found["another name"] == 1 and found["set back inside"] <= 2 and found["inlineable"] >= 5
raise SystemExit(0 if as_seen else "as many loops are fused as without it: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/fusions.py"
