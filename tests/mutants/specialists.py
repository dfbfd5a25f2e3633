"""Mistakes in specialists: fits, routers, merges, files."""

from tests.mutants.mutant import Mutant

MUTANTS = (
    # The prior is twice as strong.
    Mutant(
        "jaxopt_lite/specialists/fit.py",
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
        "jaxopt_lite/specialists/tasks.py",
        "slice(max(0, min(first, len(indices) - count)), first + count)",
        "slice(max(0, min(first, len(indices) - count - 1)), first + count)",
        ("tests/specialists/routers/test_gates.py",),
    ),
    # Both factors of a product are scaled, and the change by the square.
    Mutant(
        "jaxopt_lite/specialists/adapters.py",
        "return down, share.astype(up.dtype) * up",
        "return share.astype(down.dtype) * down, share.astype(up.dtype) * up",
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
        "jaxopt_lite/specialists/merging/methods.py",
        "sign = jnp.where(sign == 0, jnp.sign(jnp.sum(sign)), sign)",
        "sign = jnp.where(sign == 0, 1, sign)",
        ("tests/specialists/merging/test_methods.py",),
    ),
    # What is left is not rescaled.
    Mutant(
        "jaxopt_lite/specialists/merging/methods.py",
        "jnp.where(kept, entries / density, 0)",
        "jnp.where(kept, entries, 0)",
        ("tests/specialists/merging/test_methods.py",),
    ),
    # The diagonal shrinks with the rest.
    Mutant(
        "jaxopt_lite/specialists/merging/regmean.py",
        "g = jnp.where(jnp.eye(g.shape[1], dtype=bool), g, self.off_diagonal * g)",
        "g = self.off_diagonal * g",
        ("tests/specialists/merging/test_methods.py",),
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
        "jaxopt_lite/specialists/embedding.py",
        'linkage(apart, "average", optimal_ordering=True)',
        'linkage(apart, "complete", optimal_ordering=True)',
        ("tests/specialists/test_embedding.py",),
    ),
    # A formula is that of the other axis.
    Mutant(
        "jaxopt_lite/specialists/adapters.py",
        "if self.axis % 2 == axis:",
        "if self.axis % 2 != axis:",
        ("tests/specialists/merging/test_methods.py",),
    ),
    # Whoever reads during a save sees a part of it.
    Mutant(
        "jaxopt_lite/specialists/files/folder.py",
        "    for saved in _commits(path):  # a save whose files are not moved yet",
        "    for saved in []:",
        ("tests/specialists/test_files_at_once.py",),
    ),
    # What was read is not looked at again, whatever was saved meanwhile.
    Mutant(
        "jaxopt_lite/specialists/files/reading.py",
        "        if now == files:",
        "        if True:",
        ("tests/specialists/test_files_at_once.py",),
    ),
    # A file that was put there again after a kill is removed.
    Mutant(
        "jaxopt_lite/specialists/files/folder.py",
        "            if removed.get(name) == listed.stamp:",
        "            if name in removed:",
        ("tests/specialists/test_files_at_once.py",),
    ),
    # Specialists are in the order of their files.
    Mutant(
        "jaxopt_lite/specialists/files/reading.py",
        "order = sorted((place, file) for file, place in places.items() if place is not None)",
        "order = sorted((0, file) for file, place in places.items() if place is not None)",
        ("tests/specialists/test_files.py",),
    ),
    # A base whose matrices lie as PyTorch's is taken for one with the inputs first.
    Mutant(
        "jaxopt_lite/specialists/peft/names.py",
        'return False, int(self.matrices == "out_in"), (',
        "return False, 0, (",
        ("tests/specialists/peft/test_saving.py",),
    ),
    # The scale of rsLoRA is that of LoRA.
    Mutant(
        "jaxopt_lite/specialists/peft/settings.py",
        "return known * sqrt(self.rank(module)) if",
        "return known if",
        ("tests/specialists/peft/test_settings.py",),
    ),
    # A module whose name is the end of another's chooses that one too.
    Mutant(
        "jaxopt_lite/specialists/peft/settings.py",
        "if all(by(names, module) == (module in names) for module in modules):",
        "if True:",
        ("tests/specialists/peft/test_settings.py",),
    ),
    # LoRA of another scale keeps its factors.
    Mutant(
        "jaxopt_lite/specialists/peft/loading.py",
        "share = mine.scale / part.scale",
        "share = 1",
        ("tests/specialists/peft/test_loading.py",),
    ),
    # New arrays stand beside old settings for a moment.
    Mutant(
        "jaxopt_lite/specialists/peft/saving.py",
        "            (folder / last).unlink(missing_ok=True)\n",
        "",
        ("tests/specialists/peft/test_saving.py",),
    ),
)
