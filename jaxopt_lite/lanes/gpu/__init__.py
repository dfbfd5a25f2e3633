"""A whole solve as one GPU kernel, with every number of a lane in a register; used only with `backend="kernel"`.

Files, in reading order; each imports only from those above it:

- `graph`: operations on rows of lanes, as data.
- `elementwise`: JAX's elementwise primitives as such operations.
- `arrays`: JAX's primitives on whole arrays, number by number.
- `scalar`: a jaxpr, number by number.
- `program`: a method and a user's function as graphs.
- `triton`: the compiler.
- `kernel`: the engine's loop in registers.
"""
