"""A system of specialists: one base model, very many tiny adapters, fitted in one batched solve, routed by input."""

from jaxopt_lite.specialists.adapters import IA3, Adapter, LoRA, Shift
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.library import Card, Library, Profile

__all__ = ["IA3", "Adapter", "Base", "Card", "Library", "LoRA", "Profile", "Shift"]
