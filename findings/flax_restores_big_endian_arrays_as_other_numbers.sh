#!/usr/bin/env bash
# flax 0.12.12: a big-endian array that `to_bytes` writes comes back from `from_bytes` as other numbers.
#
# Each array is written as its shape, the name of its type and its bytes as they lie in memory. The name, "float32", does
# not say the order of the bytes, and the reader takes the machine's own. Classic netCDF and FITS files are big-endian,
# and NumPy keeps that order in what is read from them, in copies and in sorted tables. So a grid from such a file that
# is stored beside the parameters is damaged by the checkpoint. Shape and type agree, and there is no warning. JAX itself
# refuses such an array with a TypeError; safetensors and `numpy.save` keep its values.
#
# Seen, [1, 2, 3] from a netCDF file: float32 as [4.6e-41, 9.0e-44, 2.3e-41], int32 as [16777216, 33554432, 50331648].
# This flax needs Python 3.12 or later: the variable PYTHON names one where none of these names does.
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
"$folder/venv/bin/pip" install -q 'flax==0.12.12' 'jax==0.12.0.1' 'scipy==1.18.1' 'safetensors==0.8.0' 'numpy<3'
cat >"$folder/order.py" <<'PYTHON'
import sys

import flax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import serialization
from scipy.io import netcdf_file

with netcdf_file(sys.argv[1], "w") as file:
    file.createDimension("x", 3)
    for kind in ("f4", "i4"):
        file.createVariable(kind, kind, ("x",))[:] = [1, 2, 3]
with netcdf_file(sys.argv[1], "r", mmap=False) as file:
    read = {kind: file.variables[kind][:] for kind in ("f4", "i4")}

zeros = {kind: np.zeros(3, kind) for kind in read}
restored = serialization.from_bytes(zeros, serialization.to_bytes(read))
kept = safetensors.numpy.load(safetensors.numpy.save(read))
try:
    of_jax = jnp.asarray(read["f4"]).tolist()
except TypeError:
    of_jax = "TypeError"
print("flax", flax.__version__, "restored:", {kind: array.tolist() for kind, array in restored.items()})
print("safetensors:", {kind: array.tolist() for kind, array in kept.items()}, "jnp.asarray:", of_jax)
as_seen = all(np.array_equal(restored[kind], read[kind].view(kind)) for kind in read)
as_seen &= restored["i4"].tolist() == [1 << 24, 2 << 24, 3 << 24] and of_jax == "TypeError"
as_seen &= all(array.tolist() == [1, 2, 3] for array in [*read.values(), *kept.values()])
raise SystemExit(0 if as_seen else "big-endian arrays are restored otherwise: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/order.py" "$folder/data.nc"
