"""Floor 0: arithmetic on rows of lanes, a user's function on a tile of them, and the one loop that solves.

Files, in reading order; each imports only from those above it:

- `arithmetic`: linear algebra on rows of lanes, written as in a textbook.
- `status`: the outcome of a problem, and what to try.
- `settings`: JAX's settings, as the code here needs them.
- `widths`: how many lanes make a tile, and into how many parts a batch is divided: measured choices.
- `lanes_last`: a function of one problem applied to a tile, like `jax.vmap` but with the lane axis last.
- `native`: a whole solve as one native function of the CPU.
- `rows`: from rows of a batch to lanes and back.
- `engine`: a pool of lanes, refilled from a queue of problems.

The user's function:

- `calls`: how it is called.
- `content`, `jaxpr_content`: a key for everything that it may read, and for what it computes once traced.
- `fan_out`: a batch divided over the cores.
- `devices`: a batch divided over devices.
- `capture`: when it is traced again, and which functions share a compiled program.
- `batch`: a user's pytrees as a batch of arrays.
- `sparse_jacobian`: its Jacobian, if it uses its unknowns one by one.
- `derivatives`: its derivatives, by whichever mode of differentiation works.
- `losses`: how much its residuals count in least squares.
- `rounding`: whether its value is nothing but rounding error.
- `problem`: the function on lanes, as methods use it.
- `gpu/`: a whole solve as one kernel on a GPU.
"""
