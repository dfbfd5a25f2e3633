"""A system of specialists: one base model, very many tiny adapters, fitted in one batched solve, routed by input."""

from jaxopt_lite.specialists.adapters import IA3, Adapter, LoRA, Shift
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.base_files import load_base, save_base
from jaxopt_lite.specialists.evaluate import evaluate
from jaxopt_lite.specialists.fit import fit
from jaxopt_lite.specialists.language import language_model, window_loss
from jaxopt_lite.specialists.library import Card, Library, Profile
from jaxopt_lite.specialists.store import load, rebuild_index, save, save_one
from jaxopt_lite.specialists.tasks import Task
from jaxopt_lite.specialists.units import Unit, bits_per_byte
from jaxopt_lite.specialists.windows import windows

__all__ = [
    "IA3", "Adapter", "Base", "Card", "Library", "LoRA", "Profile", "Shift", "Task", "Unit", "bits_per_byte",
    "evaluate", "fit", "language_model", "load", "load_base", "rebuild_index", "save", "save_base", "save_one",
    "window_loss", "windows",
]  # fmt: skip
