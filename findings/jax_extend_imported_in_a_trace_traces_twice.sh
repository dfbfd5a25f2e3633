#!/usr/bin/env bash
# JAX 0.12.0.1: a jitted function in whose first trace something imports `jax.extend` is traced and compiled twice.
#
# The import, Pallas within it, adds to the settings of JAX that are part of the key of every compiled program. The first
# trace was begun under a key without them, so the second call, with the same argument, does not find it: the whole
# program is traced, lowered and compiled again. A library that loads `jax.extend` when it is first used doubles the
# time to compile of its user's first function that calls it; loaded before, with JAX, it costs 0.15 s once.
#
# Seen: 2 traces of one function at one shape in three calls, and 1 with the import in front. JAX 0.10.2 traces it once.
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
cat >"$folder/traces.py" <<'PYTHON'
import sys

import jax

if sys.argv[1] == "before":
    import jax.extend

traced = []


@jax.jit
def shifted(x):
    traced.append(x)
    import jax.extend  # as a library does that is used here for the first time

    return x + 1


for _ in range(3):
    shifted(1.0)
print("jax", jax.__version__, "imported", sys.argv[1], "the first call:", len(traced), "traces")
expected = {"before": 1, "in": 2}[sys.argv[1]]
raise SystemExit(0 if len(traced) == expected else "the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/traces.py" before
"$folder/venv/bin/python" "$folder/traces.py" in
