"""A system of specialists: one base model, very many tiny adapters, fitted in one batched solve, routed by input.

Files, in reading order; each imports only from those above it:

- `arguments`: checks and copies of what users hand over.
- `activations`: a changed model computed on its activations, so that each input of a batch can have its own change.
- `adapters`: what a specialist changes of the base's parameters: IA3, LoRA, Shift.
- `base`: the one model that all share.
- `tasks`: ragged examples as few arrays, and sums over them.
- `library`: very many specialists of a base, stacked; serving them.
- `hoist`: what of a model does not depend on an adapter is computed once.
- `fit`: the adapters of all tasks in one batched solve.

To keep, to choose, to combine:

- `tensor_files`: safetensors with a checksum.
- `files`: bases and libraries on disk.
- `routing`: every input to the specialists with the best score, or to the base.
- `routers/`: where the scores come from.
- `merging/`: one specialist out of several.
- `mixing`: learned weights over the specialists there are.
- `fisher`: the diagonal of the Fisher information.
- `embedding`: tasks as vectors, and how far they are apart.

To judge:

- `report`: what an evaluation found.
- `evaluate`: beside the alternatives.
- `language`: text as examples, and a small language model.
"""

from jaxopt_lite.specialists.adapters import IA3, Adapter, LoRA, Shift
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.embedding import (
    Embeddings,
    Similarity,
    distances,
    nearest,
    similarity,
    task2vec,
    tuned_parameters,
)
from jaxopt_lite.specialists.evaluate import evaluate
from jaxopt_lite.specialists.files import load, load_base, save, save_base, save_one
from jaxopt_lite.specialists.fisher import categorical, fisher_diagonal
from jaxopt_lite.specialists.fit import fit
from jaxopt_lite.specialists.language import bits_per_byte, language_model, window_loss, windows
from jaxopt_lite.specialists.library import Card, Library, Profile
from jaxopt_lite.specialists.merging.linear import Compressed, compress, linear_parameters
from jaxopt_lite.specialists.merging.methods import DARE, TIES, Fisher, Mean, TaskArithmetic, merge
from jaxopt_lite.specialists.merging.regmean import RegMean
from jaxopt_lite.specialists.mixing import mix
from jaxopt_lite.specialists.report import Unit
from jaxopt_lite.specialists.routers.arrow import Arrow
from jaxopt_lite.specialists.routers.calibration import calibrate, calibrated
from jaxopt_lite.specialists.routers.centroid import Centroid
from jaxopt_lite.specialists.routers.gates import Gates, fit_gates
from jaxopt_lite.specialists.routers.lda import LDA, Geometry
from jaxopt_lite.specialists.routers.softmax import Softmax
from jaxopt_lite.specialists.routing import Route, Router, route
from jaxopt_lite.specialists.tasks import Task

__all__ = [
    "DARE", "IA3", "LDA", "TIES", "Adapter", "Arrow", "Base", "Card", "Centroid", "Compressed", "Embeddings",
    "Fisher", "Gates", "Geometry", "Library", "LoRA", "Mean", "Profile", "RegMean", "Route", "Router", "Shift",
    "Similarity", "Softmax", "Task", "TaskArithmetic", "Unit", "bits_per_byte", "calibrate", "calibrated",
    "categorical", "compress", "distances", "evaluate", "fisher_diagonal", "fit", "fit_gates", "language_model",
    "linear_parameters", "load", "load_base", "merge", "mix", "nearest", "route", "save",
    "save_base", "save_one", "similarity", "task2vec", "tuned_parameters", "window_loss", "windows",
]  # fmt: skip
