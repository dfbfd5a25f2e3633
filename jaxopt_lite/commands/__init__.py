"""The commands of `jaxopt-lite`, one file each; that of byte-pair encoding, `bpe`, is `bpe/command.py`.

Files, in reading order; each imports only from those above it. What starts without JAX imports it only when it runs.

- `known`: what is known of versions of other packages.
- `works`: small jobs to try a machine with.
- `machine`: what JAX runs on here, and how it solves.
- `doctor`: all of that, and whether it works.
- `measure`: how fast a machine is.
- `chart`: that as a table, bars and a picture.
- `bench`: measures this machine and shows it.
- `demo`: what the demonstration can be asked.
"""
