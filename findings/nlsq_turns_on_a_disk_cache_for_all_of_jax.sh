#!/usr/bin/env bash
# NLSQ 0.7.6 with JAX 0.12.0.1: `import nlsq` turns JAX's compilation cache on for the whole process, in ~/.cache/nlsq,
# also where the program has chosen a folder of its own.
#
# The folder is set when the package is imported. It asks the environment variable JAX_COMPILATION_CACHE_DIR whether
# there is one already, but not `jax.config`, which is where most programs set it. From then on every jitted function
# that takes a second to compile is written to the home directory, whoever it belongs to, and looked up there in the
# next process. A program's own cache is no longer read or written, without a word. And the first call of any library
# that is timed beside NLSQ in one process may be that of a second run.
#
# Seen: the folder before the import: "chosen", after it: ".cache/nlsq/jax_cache" in the home directory.
# NLSQ needs Python 3.12 or later: the variable PYTHON names one where none of these names does.
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
"$folder/venv/bin/pip" install -q 'nlsq==0.7.6' 'jax==0.12.0.1'
cat >"$folder/cache.py" <<'PYTHON'
import os
import sys

import jax

chosen = os.path.join(sys.argv[1], "chosen")
jax.config.update("jax_compilation_cache_dir", chosen)
before = jax.config.jax_compilation_cache_dir
import nlsq  # noqa: E402

after = jax.config.jax_compilation_cache_dir
print("jax", jax.__version__, "nlsq", nlsq.__version__)
print("the folder before the import:", before, "after it:", after)
as_seen = before == chosen and after == os.path.expanduser("~/.cache/nlsq/jax_cache")
raise SystemExit(0 if as_seen else "the import leaves the cache alone: the behaviour has changed")
PYTHON
env -u JAX_COMPILATION_CACHE_DIR -u NLSQ_JAX_CACHE_DIR -u NLSQ_DISABLE_PERSISTENT_CACHE HOME="$folder" \
    "$folder/venv/bin/python" "$folder/cache.py" "$folder"
