"""Adapters: a few numbers `a` that change a few leaves of a model's parameters, as pure maps (params, a) -> params.

    IA3      W ⊙ (1 + s)           a scale along one axis     Liu et al., arXiv 2205.05638
    LoRA     W + (α / r) D U       a product of rank r        Hu et al., arXiv 2106.09685
    Shift    W + s                 any change of a leaf       BitFit, Zaken et al., arXiv 2106.10199, for biases

Parts that act on different leaves add up: `IA3("hidden") + Shift("bias")`. The parameters of an adapter are a flat
dictionary, `{"scale:hidden": ..., "shift:bias": ...}`. Its identity, the parameters that change nothing, is known:
zeros, except for the first factor of LoRA.

IA3 and Shift are linear in their parameters. LoRA is not, and many pairs of factors have the same product. So whatever
compares or merges adapters first takes them to a linear form, `linear` and `to_linear`, where LoRA is a Shift by its
product.
"""

import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxopt_lite.arguments import assign, whole_number
from jaxopt_lite.lanes.arithmetic import at_least_float32
from jaxopt_lite.specialists.activations import LowRank, Scaled, dense, is_changed
from jaxopt_lite.specialists.arguments import POSITIVE, key_seed, number, text
from jaxopt_lite.specialists.leaves import named_leaves

__all__ = ["IA3", "KINDS", "Adapter", "LoRA", "Parameters", "Part", "Shift", "as_adapter", "from_spec"]

Parameters = dict[str, Any]  # arrays, or whatever stands for them
_SCALE = "a positive number, or None for a scale of 1", POSITIVE[1]


@dataclass(frozen=True)
class Part:
    """One kind of change to the leaves whose names match `path`, with `*` for any characters.

    A new kind is a frozen dataclass, and an entry in `KINDS`; `docs/add_an_adapter.md` shows one. Programs are compiled
    for the values of its fields, so its methods must read nothing else that may change.

    Args:
        path: which leaves; keys joined by slashes, as `leaf_names` gives them. A leaf's own name means that leaf alone.

    Raises:
        TypeError: a path that is not a string.
    """

    keys: ClassVar[tuple[str, ...]]  # the names of its parameters for one leaf

    path: str

    def __post_init__(self):
        assign(self, path=text("path", self.path))  # plain, whatever it was given as: files hold settings as JSON

    def __add__(self, other: "Part | Adapter") -> "Adapter":
        return Adapter((self,)) + other

    def identity(self, name: str, leaf: Array) -> tuple[Array, ...]:
        """The parameters that leave a leaf unchanged, one array for each of `keys`."""
        raise NotImplementedError

    def change(self, leaf: Array, *parameters: Array) -> Any:
        """The changed leaf: an array, or a form that costs less to multiply with."""
        raise NotImplementedError

    def scaled(self, share: Array, *parameters: Array) -> tuple[Array, ...]:
        """The parameters of `share` times the change; the default is for a change that is linear in all of them."""
        return tuple(share.astype(each.dtype) * each for each in parameters)

    def factors(self, *parameters: Array) -> tuple[Array, Array] | None:
        """Matrices `[m, r]` and `[r, n]` whose product is the change, up to a factor; None if there are none."""
        return None

    def quadratic(self, leaf: Array, axis: int, g: Float[Array, "m m"]) -> Array:
        """H, with aᵀ H a = ‖X Δ‖² for the parameters a of a change Δ that is linear in them, and Xᵀ X = g.

        For kinds with one entry in `keys`; `RegMean` refuses others for a leaf that is multiplied with activations.

        Args:
            leaf: the matrix that Δ changes.
            axis: the axis of the leaf that the product with X sums over.
            g: the second moments of the inputs X of the layer.

        Returns:
            H as a matrix, or as a vector where it is diagonal.

        Raises:
            ValueError: no formula is known for this kind.
        """
        raise ValueError(f"RegMean has no formula for {self}; take another method.")

    @property
    def linear(self) -> "Part":
        """The part that makes the same changes and is linear in its own parameters; by default this one."""
        return self

    def to_linear(self, *parameters: Array) -> tuple[Array, ...]:
        """The parameters of `linear` that make the same change."""
        return parameters

    def from_linear(self, *parameters: Array) -> tuple[Array, ...]:
        """The parameters whose change is closest to that of these, of `linear`, in the sum of squares."""
        return parameters


@dataclass(frozen=True)
class IA3(Part):
    """A learned scale along one axis of a leaf; with the default axis, of each output of `x @ leaf`.

    Args:
        path: which leaves, as for every part.
        axis: the axis that is scaled. Axis 0 of the matrix after a layer scales the layer's activations.
    """

    keys: ClassVar = ("scale",)

    axis: int = -1

    def __post_init__(self):
        super().__post_init__()
        assign(self, axis=whole_number("axis", self.axis))

    def identity(self, name, leaf):
        if not -leaf.ndim <= self.axis < leaf.ndim:
            raise ValueError(f"IA3 on {name!r}: it has shape {leaf.shape} and no axis {self.axis}.")
        return (jnp.zeros(leaf.shape[self.axis], leaf.dtype),)

    def change(self, leaf, *parameters):
        (s,) = parameters
        return Scaled(leaf, 1 + s, self.axis % leaf.ndim)

    def quadratic(self, leaf, axis, g):
        """G ∘ W Wᵀ for Δ = diag(s) W, and the diagonal of Wᵀ G W for Δ = W diag(s)."""
        w = jnp.moveaxis(leaf, axis, 0)
        if self.axis % 2 == axis:
            return g * jnp.matmul(w, w.T, precision="highest")
        return jnp.einsum("in,ij,jn->n", w, g, w, precision="highest")


@dataclass(frozen=True)
class Shift(Part):
    """A learned term added to a leaf; few numbers if the leaf is a bias."""

    keys: ClassVar = ("shift",)

    def identity(self, name, leaf):
        return (jnp.zeros(leaf.shape, leaf.dtype),)

    def change(self, leaf, *parameters):
        (s,) = parameters
        return leaf + s

    def quadratic(self, leaf, axis, g):
        """G itself, for Δ may be any matrix."""
        return g


@dataclass(frozen=True)
class LoRA(Part):
    """A learned change of low rank, `leaf + (alpha / rank) · down @ up`; leading axes of the leaf are a stack.

    Args:
        path: which leaves, as for every part.
        rank: the rank of the change.
        alpha: its scale is `alpha / rank`; by default `rank`, for a scale of 1.
        seed: the seed of the first factor, which starts at random; the second starts at zero.
    """

    keys: ClassVar = ("down", "up")

    rank: int = 4
    alpha: float | None = None
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        assign(self, rank=whole_number("rank", self.rank, least=1), seed=key_seed(self.seed))
        if self.alpha is not None:
            known = number("alpha", self.alpha, _SCALE)
            assign(self, alpha=self.alpha if type(self.alpha) is int else known)  # its text is part of ids

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def identity(self, name, leaf):
        if leaf.ndim < 2:
            raise ValueError(f"LoRA on {name!r}: it has shape {leaf.shape}; expected a matrix. For a vector use Shift.")
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"LoRA on {name!r}: it is {leaf.dtype}; expected floating-point numbers.")
        *stack, m, n = leaf.shape
        key = jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(name.encode()))
        down = jax.random.normal(key, (*stack, m, self.rank), leaf.dtype) / np.sqrt(m).astype(leaf.dtype)
        return down, jnp.zeros((*stack, self.rank, n), leaf.dtype)

    def change(self, leaf, *parameters):
        down, up = parameters
        return LowRank(leaf, down, self.scale * up)

    def scaled(self, share, *parameters):
        """Only one of the two factors is scaled."""
        down, up = parameters
        return down, share.astype(up.dtype) * up

    def factors(self, *parameters):
        down, up = parameters
        return down, up

    @property
    def linear(self) -> Shift:
        return Shift(self.path)

    def to_linear(self, *parameters):
        down, up = parameters
        return (self.scale * jnp.matmul(down, up, precision="highest"),)

    def from_linear(self, *parameters):
        """The largest singular values; `down` has orthonormal columns even where the change is zero."""
        (change,) = parameters
        wide = at_least_float32(change.dtype)
        u, s, v = jnp.linalg.svd(change.astype(wide), full_matrices=False)
        kept = min(self.rank, s.shape[-1])
        down, up = u[..., :kept], (s[..., None] * v)[..., :kept, :] / self.scale
        down, up = down.astype(change.dtype), up.astype(change.dtype)
        *stack, same = [(0, 0)] * (change.ndim - 1)
        unused = (0, self.rank - kept)
        return jnp.pad(down, [*stack, same, unused]), jnp.pad(up, [*stack, unused, same])


@dataclass(frozen=True)
class Adapter:
    """Parts that act on different leaves, together. `IA3(...) + Shift(...)` makes one.

    Args:
        parts: the parts.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import IA3, Shift
        >>> params = {"hidden": jnp.ones((2, 3)), "bias": jnp.zeros(3)}
        >>> adapter = IA3("hidden") + Shift("bias")
        >>> a = adapter.identity(params) | {"shift:bias": jnp.arange(3.0)}
        >>> adapter.apply(params, a)["bias"].tolist()
        [0.0, 1.0, 2.0]
    """

    parts: tuple[Part, ...]

    def __post_init__(self):
        for part in self.parts:
            if not isinstance(part, Part):
                raise TypeError(f"parts holds {part!r}; expected IA3(...), LoRA(...) or Shift(...).")
        assign(self, parts=tuple(self.parts))

    def __add__(self, other: "Part | Adapter") -> "Adapter":
        return Adapter(self.parts + (other.parts if isinstance(other, Adapter) else (other,)))

    def identity(self, params: PyTree) -> Parameters:
        """The parameters that change nothing.

        Raises:
            ValueError: a part that matches no leaf, or a shape or dtype it cannot change; a leaf that two parts would
                change.
        """
        return _identity(self, params)

    def shapes(self, params: PyTree) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes and dtypes of the parameters."""
        return jax.eval_shape(self.identity, params)

    def size(self, params: PyTree) -> int:
        """The number of parameters."""
        return sum(leaf.size for leaf in self.shapes(params).values())

    def change(self, params: PyTree, a: Parameters) -> PyTree:
        """The changed parameters, with changed matrices in the form that costs least to multiply with."""
        changed = {}
        for part, name, leaf in self.matches(params):
            changed[name] = part.change(leaf, *(a[key] for key in _keys(part, name)))
        leaves = [changed.get(name, leaf) for name, leaf in named_leaves(params).items()]
        return jax.tree.unflatten(jax.tree.structure(params), leaves)

    def apply(self, params: PyTree, a: Parameters) -> PyTree:
        """The changed parameters as arrays, in a pytree like `params`."""
        changed = self.change(params, a)
        return jax.tree.map(dense, changed, is_leaf=is_changed)

    @property
    def linear(self) -> "Adapter":
        """The adapter that is linear in its parameters and can make the same changes."""
        return Adapter(tuple(part.linear for part in self.parts))

    def to_linear(self, params: PyTree, a: Parameters) -> Parameters:
        """The parameters of `linear` that make the same change; the identity has zeros."""
        linear: Parameters = {}
        for part, name, _ in self.matches(params):
            values = part.to_linear(*(a[key] for key in _keys(part, name)))
            linear |= dict(zip(_keys(part.linear, name), values, strict=True))
        return linear

    def from_linear(self, params: PyTree, linear: Parameters) -> Parameters:
        """The parameters whose change is closest to that of these, of `linear`, in the sum of squares."""
        a: Parameters = {}
        for part, name, _ in self.matches(params):
            values = part.from_linear(*(linear[key] for key in _keys(part.linear, name)))
            a |= dict(zip(_keys(part, name), values, strict=True))
        return a

    def scaled(self, params: PyTree, share: Array, a: Parameters) -> Parameters:
        """The parameters that make `share` times the change."""
        scaled: Parameters = {}
        keys_of = [(part, _keys(part, name)) for part, name, _ in self.matches(params)]
        for part, keys in sorted(keys_of, key=lambda pair: pair[1][-1]):  # the same bits in any order
            scaled |= dict(zip(keys, part.scaled(share, *(a[key] for key in keys)), strict=True))
        return scaled

    def spec(self) -> list[dict[str, Any]]:
        """The adapter as plain data, for files; `from_spec` reads it."""
        return [{"kind": type(part).__name__} | asdict(part) for part in self.parts]

    def matches(self, params: PyTree) -> Iterator[tuple[Part, str, Array]]:
        """Every part with the names and leaves it changes."""
        leaves = named_leaves(params)
        taken: dict[str, Part] = {}
        for part in self.parts:
            names = [part.path] if part.path in leaves else [name for name in leaves if _matches(name, part.path)]
            if not names:
                raise ValueError(f"{part} matches no leaf of params; its leaves are {', '.join(leaves)}.")
            for name in names:
                if name in taken:
                    raise ValueError(f"{part} and {taken[name]} both change {name!r}; expected one part for a leaf.")
                taken[name] = part
                yield part, name, leaves[name]


@partial(jax.jit, static_argnums=0)
def _identity(adapter: Adapter, params: PyTree) -> Parameters:
    """`Adapter.identity`, as one program for all arrays."""
    a: Parameters = {}
    for part, name, leaf in adapter.matches(params):
        values = part.identity(name, leaf)
        if not all(jnp.issubdtype(value.dtype, jnp.floating) for value in values):
            dtype = jnp.result_type(leaf).name
            raise ValueError(f"{part} on {name!r}: it is {dtype}; expected floating-point numbers.")
        a |= dict(zip(_keys(part, name), values, strict=True))
    return a


def _matches(name: str, path: str) -> bool:
    """Whether a name is a path in which each `*` stands for any characters, and everything else for itself."""
    first, *rest = path.split("*")
    if not rest:
        return name == path
    *middle, last = rest
    position, end = len(first), len(name) - len(last)
    for piece in middle:  # the first place for each leaves the most for the next
        position = name.find(piece, position, end) + len(piece)
        if position < len(piece):
            return False
    return name.startswith(first) and name.endswith(last) and position <= end


def _keys(part: Part, name: str) -> list[str]:
    return [f"{key}:{name}" for key in part.keys]


def as_adapter(adapter: Adapter | Part) -> Adapter:
    """The adapter, or the adapter of one part.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(adapter, Part):
        return Adapter((adapter,))
    if not isinstance(adapter, Adapter):
        raise TypeError(f"adapter={adapter!r}: expected IA3(...), LoRA(...), Shift(...) or a sum of them.")
    return adapter


KINDS: dict[str, type[Part]] = {kind.__name__: kind for kind in (IA3, LoRA, Shift)}  # by the names in files


def from_spec(spec: list[dict[str, Any]]) -> Adapter:
    """The adapter that `Adapter.spec` describes.

    Raises:
        ValueError: a kind or a setting that is not known here.
    """
    parts = []
    for entry in spec:
        settings = dict(entry)
        kind = KINDS.get(settings.pop("kind", None))
        if kind is None:
            raise ValueError(f"an adapter of kind {entry.get('kind')!r}; expected one of {', '.join(KINDS)}.")
        try:
            parts.append(kind(**settings))
        except TypeError as error:
            raise ValueError(f"the adapter {entry} does not fit {kind.__name__}: {error}.") from error
    return Adapter(tuple(parts))
