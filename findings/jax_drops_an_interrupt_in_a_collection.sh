#!/usr/bin/env bash
# JAX 0.10.2 (installed below) and 0.12.0.1: Ctrl-C is dropped when it arrives while Python collects garbage.
#
# Importing JAX adds a Python function to `gc.callbacks`. A signal that arrives during a collection is delivered at the
# next step of Python code, which then is that function; what is raised there Python reports as ignored, and the program
# goes on as if nobody had pressed a key. Without JAX the same interrupt arrives. Tracing makes much garbage, so a job
# that traces and compiles is now and then not to be stopped by one key.
#
# Seen: of 10 interrupts sent during collections, 10 arrive without JAX and 0 with it; the ignored ones are
# KeyboardInterrupt in `_xla_gc_callback`. A hook at `sys.unraisablehook` can repeat them a moment later.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'jax==0.10.2' 'numpy<3'
cat >"$folder/interrupts.py" <<'PYTHON'
import gc
import os
import signal
import sys
import threading
import time


def arrived(times):
    """How many interrupts come through that are sent while a large heap is collected over and over."""
    kept, count = [[] for _ in range(300_000)], 0
    for _ in range(times):
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
        end = time.monotonic() + 0.2
        try:
            while time.monotonic() < end:
                gc.collect()
        except KeyboardInterrupt:
            count += 1
    return count


ignored = []
sys.unraisablehook = lambda what: ignored.append((what.exc_type.__name__, getattr(what.object, "__name__", "?")))
without = arrived(10)
import jax

with_jax = arrived(10)
print("jax", jax.__version__, "arrived without JAX:", without, "of 10, with it:", with_jax, set(ignored))
as_seen = without == 10 and with_jax <= 2 and set(ignored) == {("KeyboardInterrupt", "_xla_gc_callback")}
raise SystemExit(0 if as_seen else "interrupts arrive otherwise now: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/interrupts.py"
