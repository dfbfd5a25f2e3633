"""Byte-pair encoding on a device, by JAX, with the results of the host. Loaded when a device is asked for.

Files, in reading order:
    pairs: rounds of merges on a device, and `count_pairs`, the public kernel.
    words: finding and counting pieces of text on a device; the sum of word counts over hosts.
    encode: encoding very many words at once.
"""
