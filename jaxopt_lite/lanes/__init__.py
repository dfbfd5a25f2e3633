"""Floor 0: arithmetic on rows of lanes, a user's function on a tile of them, and the one loop that solves.

Files, in reading order; each imports only from those above it:

- `arithmetic`: linear algebra on a row of lanes, in the lines of the textbook.
- `status`: what a problem came to, and what to try.
- `settings`: JAX's switches, as the code here is written for.
- `widths`: how many lanes a tile has, and how many parts a batch, by measurement.
- `lanes_last`: a function of one problem on a tile, as by `jax.vmap`, with the lanes last.
- `native`: a whole solve as one native function of the CPU.
- `rows`: from rows of a batch to lanes and back.
- `engine`: a pool of lanes, refilled from a queue of problems.

The user's function:

- `calls`: how it is called.
- `content`: a key of all that it may read.
- `fan_out`: a batch divided over the cores.
- `devices`: a batch divided over devices.
- `capture`: when it is traced again, and which functions share a compiled program.
- `derivatives`: its derivatives, by the mode of differentiation that it has.
- `losses`: what its residuals are worth in least squares.
- `rounding`: whether what it gives is nothing but rounding.
- `problem`: a batch as arrays, and the function on lanes, for a method.
- `gpu/`: a whole solve as one kernel on a GPU.
"""
