"""How the leaves of a base are called in a PyTorch model, and how their arrays are laid out there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from jaxopt_lite.arguments import assign
from jaxopt_lite.specialists.arguments import text
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.leaves import named_leaves
from jaxopt_lite.specialists.peft.settings import is_chosen

__all__ = ["Place", "TorchNames"]

_LAST = {"kernel": "weight", "w": "weight", "embedding": "weight", "scale": "weight", "b": "bias"}


@dataclass(frozen=True)
class TorchNames:
    """How the leaves of a base correspond to the parameters of a PyTorch model.

    Args:
        names: for each leaf, by its name as in adapters, the name of the parameter in the model's `state_dict()`, such
            as `"transformer.h.0.attn.c_attn.weight"`; None for a leaf that the model does not have. A dictionary of all
            leaves, or a function. By default the keys joined by dots, the last one in the words of PyTorch: `weight`
            for `kernel`, `w`, `embedding` and `scale`, `bias` for `b`; where it is another word, `.weight` follows.
        matrices: how the base holds the matrix of a layer: `"in_out"`, `[in, out]` for `x @ w`, as Flax and Haiku do;
            or `"out_in"`, as Equinox and PyTorch do.
        conv1d: names of modules, or their ends after a dot, that are `Conv1D` of transformers, as in GPT-2, and not
            `Linear`.
        embeddings: the same for those that are an `Embedding`. Leaves called `embedding` always are.

    Raises:
        TypeError: names that are neither, or not strings.
        ValueError: `matrices` of another value.
    """

    names: Callable[[str], str | None] | Mapping[str, str | None] | None = None
    matrices: Literal["in_out", "out_in"] = "in_out"
    conv1d: Sequence[str] = ()
    embeddings: Sequence[str] = ()

    def __post_init__(self):
        if not (self.names is None or callable(self.names) or isinstance(self.names, Mapping)):
            raise TypeError(f"names={self.names!r}: expected a dictionary {{leaf: parameter}}, or a function.")
        if self.matrices not in ("in_out", "out_in"):
            raise ValueError(f"matrices={self.matrices!r}: expected 'in_out', as in Flax, or 'out_in', as in Equinox.")
        for what in ("conv1d", "embeddings"):
            given = getattr(self, what)
            if isinstance(given, str):
                raise TypeError(f"{what}={given!r}: expected several names, and not one.")
            assign(self, **{what: tuple(text(what, name) for name in given)})

    def places(self, base: Base) -> dict[str, "Place"]:
        """The place of each leaf in the PyTorch model; those it does not have are left out.

        Raises:
            TypeError: a name that is not a string.
            ValueError: a leaf without a name, two leaves with the same name, a name without a module.
        """
        places: dict[str, Place] = {}
        taken: dict[str, str] = {}
        for leaf, array in named_leaves(base.params).items():
            name = self._name(leaf)
            if name is None:
                continue
            module, dot, parameter = text(f"names[{leaf!r}]", name).rpartition(".")
            if not dot or not module:
                raise ValueError(f"names[{leaf!r}]={name!r}: expected a module and its parameter, 'module.weight'.")
            if name in taken:
                raise ValueError(
                    f"names has {name!r} for {taken[name]!r} and for {leaf!r}; expected one leaf for each."
                )
            taken[name] = leaf
            places[leaf] = Place(leaf, module, parameter, array, *self._layout(leaf, module))
        return places

    def _name(self, leaf: str) -> str | None:
        if self.names is None:
            *keys, last = leaf.split("/")
            known = _LAST.get(last, last)
            return ".".join([*keys, known] if keys and known in ("weight", "bias") else [*keys, last, "weight"])
        if not isinstance(self.names, Mapping):
            return self.names(leaf)
        if leaf not in self.names:
            raise ValueError(f"names has nothing for the leaf {leaf!r}; give its parameter, or None if there is none.")
        return self.names[leaf]

    def _layout(self, leaf: str, module: str) -> tuple[bool, int, bool]:
        """Whether it is an embedding, which axis of a matrix is its input, and whether PyTorch holds the transpose."""
        is_embedding = leaf.rpartition("/")[2] == "embedding" or is_chosen(self.embeddings, module)
        if is_embedding:
            return True, 0, False
        return False, int(self.matrices == "out_in"), (self.matrices == "in_out") != self.is_conv1d(module)

    def is_conv1d(self, module: str) -> bool:
        """Whether a module is a `Conv1D` of transformers."""
        return is_chosen(self.conv1d, module)


class Place(NamedTuple):
    """The place of a leaf in a PyTorch model.

    Attributes:
        leaf: the name of the leaf.
        module: the module's name.
        parameter: the module's parameter, such as `weight`.
        array: the leaf.
        is_embedding: whether the module is an embedding.
        input: the axis of the matrix that is summed over in the layer.
        is_transposed: whether PyTorch holds the transpose.
    """

    leaf: str
    module: str
    parameter: str
    array: Any
    is_embedding: bool
    input: int
    is_transposed: bool

    @property
    def name(self) -> str:
        """The parameter's name in the model."""
        return f"{self.module}.{self.parameter}"

    def turned(self, array: ArrayLike) -> np.ndarray:
        """The leaf as PyTorch's parameter, or the parameter as the leaf.

        Raises:
            ValueError: more than two axes.
        """
        array = np.asarray(array)
        if array.ndim > 2:
            raise ValueError(f"{self.leaf!r} has shape {array.shape}; expected vectors and matrices, one for a module.")
        return array.T if self.is_transposed else array

    @property
    def lora_names(self) -> tuple[str, str]:
        """How PEFT calls LoRA's two factors, after the module's name."""
        if self.is_embedding:
            return ".lora_embedding_A", ".lora_embedding_B"
        return ".lora_A.weight", ".lora_B.weight"

    def check_floating(self, what: str) -> None:
        """Refuse a leaf of integers, such as one that is quantized: every change would be rounded to whole numbers.

        Raises:
            ValueError: such a leaf.
        """
        dtype = jnp.result_type(self.array)
        if not jnp.issubdtype(dtype, np.floating):
            raise ValueError(f"{what} on {self.leaf!r}: it is {dtype}; expected floating-point numbers.")

    def check_matrix(self, what: str) -> None:
        """Refuse a leaf that LoRA and IA3 of PEFT cannot change.

        Raises:
            ValueError: it is not a matrix of floating-point numbers, or not the weight of its module.
        """
        self.check_floating(what)
        if self.array.ndim != 2 or self.parameter != "weight":
            raise ValueError(
                f"{what} on {self.leaf!r}, of shape {self.array.shape}, which is {self.name!r} in PyTorch; PEFT's is "
                "for a matrix that is the weight of a module."
            )
