"""Mistakes in specialists: fits, routers, merges, files."""

from tests.mutants.mutant import Mutant

MUTANTS = (
    # The prior is twice as strong.
    Mutant(
        "jaxopt_lite/specialists/objective.py",
        "return loss + prior / 2 * apart / jnp.sum(weight), loss",
        "return loss + prior * apart / jnp.sum(weight), loss",
        ("tests/specialists/test_fit.py",),
    ),
    # Fits of one call are in the order in which they were solved, and not in that of the tasks.
    Mutant(
        "jaxopt_lite/specialists/fit.py",
        "np.concatenate(leaves)[rows], *(result",
        "np.concatenate(leaves)[: len(rows)], *(result",
        ("tests/specialists/test_fit.py",),
    ),
    # One of the copies that fill up a task counts.
    Mutant(
        "jaxopt_lite/specialists/tasks.py",
        "row[task.examples :] = 0",
        "row[task.examples + 1 :] = 0",
        ("tests/specialists/test_fit.py",),
    ),
    # The last piece reaches back too far, and is another program.
    Mutant(
        "jaxopt_lite/specialists/routers/gates.py",
        "slice(max(0, min(first, len(places) - _CHUNK)), first + _CHUNK)",
        "slice(max(0, min(first, len(places) - _CHUNK - 1)), first + _CHUNK)",
        ("tests/specialists/routers/test_gates.py",),
    ),
    # Both factors of a product are scaled, and the change by the square.
    Mutant(
        "jaxopt_lite/specialists/routers/gates.py",
        "leaf if key.startswith(first) else share.astype(leaf.dtype) * leaf",
        "share.astype(leaf.dtype) * leaf",
        ("tests/specialists/routers/test_gates.py",),
    ),
    # The variance of a mean of n inputs is forgotten.
    Mutant(
        "jaxopt_lite/specialists/routers/lda.py",
        "        c = n / (n + 1)",
        "        c = n / n",
        ("tests/specialists/routers/test_lda.py",),
    ),
    # The quantile is one off.
    Mutant(
        "jaxopt_lite/specialists/routers/calibration.py",
        "np.sort(novelty)[rank - 1]",
        "np.sort(novelty)[rank - 2]",
        ("tests/specialists/routers/test_calibration.py",),
    ),
    # Where entries cancel, the positive sign is elected.
    Mutant(
        "jaxopt_lite/specialists/methods.py",
        "sign = jnp.where(sign == 0, jnp.sign(jnp.sum(sign)), sign)",
        "sign = jnp.where(sign == 0, 1, sign)",
        ("tests/specialists/test_merging.py",),
    ),
    # What is left is not rescaled.
    Mutant(
        "jaxopt_lite/specialists/methods.py",
        "jnp.where(kept, entries / (1 - self.drop), 0)",
        "jnp.where(kept, entries, 0)",
        ("tests/specialists/test_merging.py",),
    ),
    # The diagonal shrinks with the rest.
    Mutant(
        "jaxopt_lite/specialists/regmean.py",
        "g = jnp.where(jnp.eye(g.shape[1], dtype=bool), g, self.off_diagonal * g)",
        "g = self.off_diagonal * g",
        ("tests/specialists/test_merging.py",),
    ),
    # Up to 256 rows are a single tile, which XLA computes otherwise.
    Mutant(
        "jaxopt_lite/specialists/tiles.py",
        "size = max(2, -(-leaf.shape[0] // _TILE)) * _TILE",
        "size = max(1, -(-leaf.shape[0] // _TILE)) * _TILE",
        ("tests/specialists/test_tiles.py",),
    ),
    # Features that are no numbers are routed.
    Mutant(
        "jaxopt_lite/specialists/routing.py",
        "known = jnp.isfinite(score[:, :1]) & (-score[:, :1] <= router.threshold)",
        "known = -score[:, :1] <= router.threshold",
        ("tests/specialists/test_routing.py",),
    ),
    # A mix is pulled towards the sum.
    Mutant(
        "jaxopt_lite/specialists/mixing.py",
        "np.full(k, 1 / k, dtype)",
        "np.full(k, 1, dtype)",
        ("tests/specialists/test_mixing.py",),
    ),
    # Clusters are as far apart as their farthest members.
    Mutant(
        "jaxopt_lite/specialists/similarity.py",
        "row = (n * apart[i] + m * apart[j]) / (n + m)",
        "row = np.maximum(apart[i], apart[j])",
        ("tests/specialists/test_embedding.py",),
    ),
)
