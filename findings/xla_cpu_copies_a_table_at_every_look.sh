#!/usr/bin/env bash
# JAX 0.10.2 (installed below) and 0.12.0.1, XLA's CPU backend: a loop that looks at one entry of a table, and writes that
# entry, copies the whole table twice in every iteration, if what was seen also decides where the loop looks next.
#
# That is how keys are put into a hash table: read a slot, write it if it is free, else try the next. Each of the
# table's three users (the read, the write, what carries on) is fused for itself, and those fusions that read would come
# after the write; so XLA keeps a copy for them. With 2^20 entries a key takes a millisecond where it takes a
# microsecond with none. `mode="drop"` in place of the old value, and `.at[].max`, copy as often. In 0.12.0.1 an
# `optimization_barrier` on what was read ends it; in 0.10.2 it changes nothing, and only a table that the loop does not
# read does.
#
# Seen with 0.10.2, copies of the table in the program (one is of the argument): 3, 3 with "drop", 3 with a barrier
# (0.12.0.1: 1), and 1 where the loop looks into what the table was at first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'jax==0.10.2' 'numpy<3'
cat >"$folder/copies.py" <<'PYTHON'
import re

import jax
import jax.numpy as jnp
from jax import lax

SIZE = 1 << 16
keys = 1 + jnp.arange(1000) * 7919 % 100_003


def copies(write, seen_at_first=False):
    def insert(keys, table):
        def look(state):
            k, tried, changed = state
            slot = (keys[k] + tried) % SIZE
            here = (table if seen_at_first else changed)[slot]
            changed, done = write(changed, slot, here, keys[k])
            return k + done, jnp.where(done, 0, tried + 1), changed

        return lax.while_loop(lambda state: state[0] < keys.size, look, (0, 0, table))[2]

    text = jax.jit(insert).lower(keys, jnp.zeros(SIZE, jnp.int32)).compile().as_text()
    return len(re.findall(rf"= s32\[{SIZE}\]\S* copy\(", text))


def old_value(table, slot, here, key):
    free = (here == 0) | (here == key)
    return table.at[slot].set(jnp.where(free, key, here)), free


def drop(table, slot, here, key):
    free = (here == 0) | (here == key)
    return table.at[jnp.where(free, slot, SIZE)].set(key, mode="drop"), free


def barrier(table, slot, here, key):
    return old_value(table, slot, lax.optimization_barrier(here), key)


found = {write.__name__: copies(write) for write in (old_value, drop, barrier)}
found["read at first"] = copies(old_value, seen_at_first=True)
print("jax", jax.__version__, "copies of the table:", found)
as_seen = found == {"old_value": 3, "drop": 3, "barrier": 3, "read at first": 1}
raise SystemExit(0 if as_seen else "the table is copied as often as elsewhere: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/copies.py"
