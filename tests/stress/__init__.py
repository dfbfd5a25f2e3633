"""Long runs that look for what no one thought of; each by `python -m tests.stress.NAME`, none by pytest."""
