"""Merging: one specialist out of several.

Files, in reading order; each imports only from those above it:

- `linear`: what specialists change, in the linear form of their adapter, and back to LoRA.
- `methods`: `merge`, and the methods that are arithmetic on these changes.
- `gram`: the second moments of the inputs of a model's layers.
- `regmean`: the method that needs them.
"""
