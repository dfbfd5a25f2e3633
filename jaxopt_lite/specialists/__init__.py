"""A system of specialists: one base model, very many tiny adapters, fitted in one batched solve, routed by input."""

from jaxopt_lite.specialists.adapters import IA3, Adapter, LoRA, Shift
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.base_files import load_base, save_base
from jaxopt_lite.specialists.embedding import Embeddings, distances, nearest, task2vec, tuned_parameters
from jaxopt_lite.specialists.evaluate import evaluate
from jaxopt_lite.specialists.fisher import categorical, fisher_diagonal
from jaxopt_lite.specialists.fit import fit
from jaxopt_lite.specialists.language import language_model, window_loss
from jaxopt_lite.specialists.library import Card, Library, Profile
from jaxopt_lite.specialists.linear import Compressed, compress, linear_parameters
from jaxopt_lite.specialists.merging import merge
from jaxopt_lite.specialists.methods import DARE, TIES, Fisher, Mean, TaskArithmetic
from jaxopt_lite.specialists.mixing import mix
from jaxopt_lite.specialists.regmean import RegMean
from jaxopt_lite.specialists.routers.arrow import Arrow
from jaxopt_lite.specialists.routers.calibration import calibrate, calibrated
from jaxopt_lite.specialists.routers.centroid import Centroid
from jaxopt_lite.specialists.routers.gates import Gates, fit_gates
from jaxopt_lite.specialists.routers.geometry import Geometry
from jaxopt_lite.specialists.routers.lda import LDA
from jaxopt_lite.specialists.routers.softmax import Softmax
from jaxopt_lite.specialists.routing import Route, Router, route
from jaxopt_lite.specialists.similarity import Similarity, similarity
from jaxopt_lite.specialists.store import load, rebuild_index, save, save_one
from jaxopt_lite.specialists.tasks import Task
from jaxopt_lite.specialists.units import Unit, bits_per_byte
from jaxopt_lite.specialists.windows import windows

__all__ = [
    "DARE", "IA3", "LDA", "TIES", "Adapter", "Arrow", "Base", "Card", "Centroid", "Compressed", "Embeddings",
    "Fisher", "Gates", "Geometry", "Library", "LoRA", "Mean", "Profile", "RegMean", "Route", "Router", "Shift",
    "Similarity", "Softmax", "Task", "TaskArithmetic", "Unit", "bits_per_byte", "calibrate", "calibrated",
    "categorical", "compress", "distances", "evaluate", "fisher_diagonal", "fit", "fit_gates", "language_model",
    "linear_parameters", "load", "load_base", "merge", "mix", "nearest", "rebuild_index", "route", "save",
    "save_base", "save_one", "similarity", "task2vec", "tuned_parameters", "window_loss", "windows",
]  # fmt: skip
