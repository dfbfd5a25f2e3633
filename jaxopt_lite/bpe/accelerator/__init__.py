"""Byte-pair encoding on a device, by JAX, with the results of the host. Loaded when a device is asked for.

Files, in reading order:

- `pairs`: rounds of merges, and `count_pairs`, the public kernel.
- `words`: pieces of text found and counted, and the sum of word counts over hosts.
- `encode`: very many words encoded at once.
"""
