"""The commands of `jaxopt-lite`, one file each; that of byte-pair encoding, `bpe`, is `bpe/command.py`.

Files, in reading order; each imports only from those above it. What can start without JAX imports it only when it runs.

- `known`: known problems of versions of other packages.
- `works`: small jobs to try a machine with.
- `machine`: what JAX runs on here, and how batches are solved.
- `doctor`: all of that, and whether it works.
- `measure`: how fast a machine is.
- `chart`: the measurements as a table, bars and a picture.
- `bench`: measures this machine and shows it.
- `demo`: the options of the demonstration.
"""
