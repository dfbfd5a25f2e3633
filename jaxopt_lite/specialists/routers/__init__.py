"""Routers: how the scores of specialists are computed, and how thresholds are set.

Files, in reading order; each imports only from those above it:

- `lda`: the nearest mean in a whitened feature space, the default; the geometry of that space.
- `calibration`: geometry, thresholds and temperatures from inputs of tasks.
- `centroid`: the nearest mean, by angle or distance.
- `softmax`: multinomial logistic regression.
- `gates`: PHATGOOSE: a gate for each specialist, learned alone.
- `arrow`: the direction in which a LoRA changes its layer's inputs most.
"""
