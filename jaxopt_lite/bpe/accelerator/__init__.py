"""Byte-pair encoding on a device with JAX, with the same results as on the host. Loaded when a device is asked for.

The modules in reading order:

- `pairs`: rounds of merges, and `count_pairs`, the public kernel.
- `words`: finds and counts pieces of text, and sums word counts over hosts.
- `encode`: encodes very many words at once.
"""
