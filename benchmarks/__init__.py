"""Benchmarks: one command each, peers in the same run; `README.md` says how they measure."""
