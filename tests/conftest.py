"""Settings shared by all tests: float64 is on, so that float32 results are a choice and not the default."""

import jax

jax.config.update("jax_enable_x64", True)
