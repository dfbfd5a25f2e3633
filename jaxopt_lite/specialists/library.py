"""Very many specialists of one base: stacked adapters, with a profile for routers and a card for each."""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from jaxopt_lite.arguments import assign, whole_number
from jaxopt_lite.lanes.capture import run
from jaxopt_lite.lanes.status import Status, is_solved
from jaxopt_lite.specialists.activations import on_activations
from jaxopt_lite.specialists.adapters import Adapter, Parameters, as_adapter
from jaxopt_lite.specialists.arguments import check_real, copied, frozen, inputs, remembered, renamed, repeated, text
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.leaves import digest
from jaxopt_lite.tables import html_table

__all__ = ["Card", "Library", "Profile", "adapted", "outside", "rows_of", "squared", "unknown_fisher"]

_SHOWN = 20  # specialists, in a notebook


@renamed(licence="license")
@dataclass(frozen=True)
class Card:
    """What is known of one specialist besides its numbers.

    Attributes:
        name: unique in a library.
        examples: the number of examples given for its fit, those of weight 0 included.
        loss: the mean loss on them; None if it is not known or not finite.
        status: the outcome of its fit, the name of a `Status`.
        parents: the ids of the specialists it was made from.
        recipe: how it was made from them.
        author: who made it.
        license: under which it may be used.
        notes: anything else.

    Raises:
        TypeError: a field that is not a string, parents that are not strings, a loss that is not a number.
        ValueError: `examples` that are not a whole number, or negative.
    """

    name: str
    examples: int = 0
    loss: float | None = None
    status: str = ""
    parents: tuple[str, ...] = ()
    recipe: str = ""
    author: str = ""
    license: str = ""
    notes: str = ""

    def __post_init__(self):
        words = "name", "status", "recipe", "author", "license", "notes"
        assign(self, **{what: text(what, getattr(self, what)) for what in words})
        if isinstance(self.parents, str) or not isinstance(self.parents, Iterable):
            raise TypeError(f"parents={self.parents!r}: expected several strings.")
        parents = tuple(text("parents", parent) for parent in self.parents)
        assign(self, parents=parents, examples=whole_number("examples", self.examples, least=0))
        if self.loss is not None:
            check_real("loss", self.loss)
            if np.ndim(self.loss):
                raise TypeError(f"loss has shape {np.shape(self.loss)}; expected one number.")
            # NaN != NaN: a card holding one would never equal itself, and `jit` would compile anew for its library.
            assign(self, loss=float(self.loss) if math.isfinite(self.loss) else None)

    @property
    def solved(self) -> bool:
        """Whether its fit ended well, as `Solution.success` says."""
        return self.status in Status.__members__ and bool(is_solved(Status[self.status]))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Profile:
    """What a specialist ships for routers and merges, stacked: arrays of d features, and arrays like the parameters.

    Attributes:
        count: the number of examples.
        mean: the mean features of its inputs.
        fisher: the diagonal of the empirical Fisher information of its parameters: the mean over the examples of the
            squared gradient of the loss; in float32 for parameters in float16, which cannot hold the squares.
        gate: a direction in feature space, learned by `fit_gates`; zero without it.
    """

    count: Float[Array, " T"]
    mean: Float[Array, "T d"]
    fisher: Parameters
    gate: Float[Array, "T d"]


def squared(gradient: Parameters) -> Parameters:
    """The squared gradient, whose mean is a Fisher diagonal; in float32 for float16, which overflows at 256²."""
    return jax.tree.map(lambda leaf: jnp.square(leaf.astype(_of_squares(leaf.dtype))), gradient)


def unknown_fisher(parameters: Parameters) -> Parameters:
    """Zeros for specialists whose Fisher diagonal is not known, in the dtype that `fit` gives."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, _of_squares(leaf.dtype)), parameters)


def _of_squares(dtype: Any) -> Any:
    return jnp.float32 if dtype == jnp.float16 else dtype


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Library:
    """T specialists of one base. It never changes; adding or removing gives a new one.

    As a pytree its leaves are the parameters of the base, of the adapters `[T, ...]`, and the profile. NumPy arrays are
    copied, so later edits do not change a specialist.

    Attributes:
        base: the model.
        parameters: the parameters of the adapters, stacked.
        profile: what routers and merges need, stacked.
        adapter: what the parameters mean.
        cards: a card for each specialist.
    """

    base: Base
    parameters: Parameters
    profile: Profile
    adapter: Adapter = field(metadata={"static": True})
    cards: tuple[Card, ...] = field(metadata={"static": True})

    def __post_init__(self):
        assign(self, parameters=frozen(self.parameters), profile=frozen(self.profile))
        assign(self, adapter=as_adapter(self.adapter), cards=tuple(self.cards))
        if len(self._index_of) < len(self):
            raise ValueError(f"cards: the names {repeated(self.names)} occur more than once.")

    def __len__(self) -> int:
        return len(self.cards)

    def __contains__(self, name: object) -> bool:
        return name in self._index_of

    def __getitem__(
        self, which: str | int | Sequence[str] | Sequence[int] | slice | Bool[ArrayLike, " T"]
    ) -> "Library":
        """The library of some specialists, chosen by name, index, slice, or a mask of booleans.

        Raises:
            KeyError: a name that is not there.
            IndexError: an index out of range, a mask of another length.
            TypeError: anything else.
        """
        return self._take(rows_of(self, which))

    def __repr__(self) -> str:
        kinds = " + ".join(f"{type(part).__name__}({part.path})" for part in self.adapter.parts)
        return f"Library({len(self)} specialists of {self.base.name}, {kinds}, {self.size} numbers each)"

    def _repr_html_(self) -> str:
        cards = self.cards[:_SHOWN]
        rows = [(card.name, card.examples, card.loss, card.status, card.recipe, card.author) for card in cards]
        more = f", the first {_SHOWN}" if len(self) > _SHOWN else ""
        return html_table(f"{self!r}{more}", ("name", "examples", "loss", "status", "recipe", "author"), rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each."""
        return tuple(card.name for card in self.cards)

    @property
    def size(self) -> int:
        """The number of parameters of one specialist."""
        return self.adapter.size(self.base.params)

    @property
    def _index_of(self) -> dict[str, int]:
        return remembered(self, "_indices", (), lambda: {card.name: index for index, card in enumerate(self.cards)})

    @property
    def ids(self) -> tuple[str, ...]:
        """The content hash of each, over its adapter, its parameters and its base; computed on the host."""
        return remembered(self, "_ids", jax.tree.leaves((self.base, self.parameters)), self._digests)

    def _digests(self) -> tuple[str, ...]:
        arrays = jax.tree.map(np.asarray, self.parameters)
        texts = self.base.fingerprint, self.base.tokenizer_fingerprint, repr(self.adapter.spec())
        return tuple(digest({key: array[row] for key, array in arrays.items()}, *texts) for row in range(len(self)))

    def adapter_of(self, name: str) -> Parameters:
        """The parameters of one specialist's adapter.

        Raises:
            KeyError: a name that is not there.
            TypeError: a name that is not a string.
        """
        (row,) = rows_of(self, text("name", name))
        return jax.tree.map(lambda leaf: leaf[row], self.parameters)

    def add(self, other: "Library") -> "Library":
        """The specialists of both, those of this library first. What both have, by name and id, is kept as it is here.

        Equal ids mean equal parameters, to the bit; the other's card and profile are then dropped.

        Raises:
            ValueError: another base, tokenizer or adapter; one name for different specialists.
        """
        self._check_compatible(other)
        both = [name for name in other.names if name in self]
        for name in both:
            if self.ids[self._index_of[name]] != other.ids[other._index_of[name]]:
                raise ValueError(f"both libraries have a {name!r}, and not the same one; `rename` one of them.")
        new = other[[name for name in other.names if name not in self]]
        if not len(self) or not len(new):  # an empty library may have no width
            return self if len(self) else new
        parameters, profile = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), self._arrays, new._arrays)
        return self._with(parameters, profile, self.cards + new.cards)

    def remove(self, names: str | Iterable[str]) -> "Library":
        """All but these, which are chosen as in `library[...]`, or by a set.

        Raises:
            KeyError: a name that is not there.
            IndexError: an index out of range, a mask of another length.
        """
        gone = set(rows_of(self, list(names) if isinstance(names, set | frozenset) else names))
        return self._take([row for row in range(len(self)) if row not in gone])

    def rename(self, names: Mapping[str, str]) -> "Library":
        """The library with new names for some, `{old: new}`.

        Raises:
            KeyError: an old name that is not there.
            TypeError: a name that is not a string.
        """
        rows_of(self, [text("an old name", name) for name in names])
        cards = tuple(replace(card, name=names.get(card.name, card.name)) for card in self.cards)
        return self._with(self.parameters, self.profile, cards)

    def apply(self, x: PyTree, index: Int[Array, " B"] | Int[Array, "B k"], weight: Array | None = None) -> PyTree:
        """The outputs for a batch of inputs, each by specialists of its own, in one call; no model is made per input.

        Args:
            x: inputs, leaves `[B, ...]`.
            index: the specialist for each input, −1 for the base; or k of them.
            weight: with k of them, the weight of each in the weighted sum of the outputs, `[B, k]`. Weight 0 counts for
                nothing, even where the output is infinite or NaN.

        Returns:
            What `base.apply` returns, leaves `[B, ...]`; NaN where an index is out of range under `jit`.

        Raises:
            IndexError: an index out of range, outside `jit`.
            TypeError: an index that is not of integers, such as a mask; weights that are not real numbers.
            ValueError: k specialists without weights, or weights of another shape; not one input for each index.
        """
        index, weight = copied(index), None if weight is None else copied(weight)
        _check_index(index, weight, len(self))
        self._check_rows(self.parameters)
        sizes, expected = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(x)}, index.shape[:1]
        if sizes - {expected}:
            raise ValueError(f"x has leading axes {sorted(sizes)}; expected {expected}, an input for each index.")
        x, base = inputs(x), self.base
        function = base.apply, base.signature(x, changed=True)
        return run(_apply, (self.adapter,), [function], base.params, self.parameters, x, index, weight)

    @property
    def _arrays(self) -> tuple[Parameters, Profile]:
        self._check_rows({"parameters": self.parameters, "profile": self.profile})
        return self.parameters, self.profile

    def _check_rows(self, arrays: PyTree) -> None:
        """Refuse arrays without a row for each card. Checked on use: JAX may build the pytree with anything in it."""
        for leaf in jax.tree.leaves(arrays):
            if leaf.shape[:1] != (len(self),):
                raise ValueError(
                    f"an array of the library has shape {leaf.shape}; expected [{len(self)}, ...], a row for each card."
                )

    def _with(self, parameters, profile, cards) -> "Library":
        return replace(self, parameters=parameters, profile=profile, cards=cards)

    def _take(self, rows: Sequence[int]) -> "Library":
        indices = np.asarray(rows, np.int32)
        parameters, profile = jax.tree.map(lambda leaf: leaf[indices], self._arrays)
        return self._with(parameters, profile, tuple(self.cards[row] for row in rows))

    def _check_compatible(self, other: "Library") -> None:
        mine, theirs = (
            {
                "base": library.base.fingerprint,
                "tokenizer": library.base.tokenizer_fingerprint,
                "adapter": library.adapter,
                "dtype": {key: str(leaf.dtype) for key, leaf in sorted(library.parameters.items())},
                "width of the features": library.profile.mean.shape[-1] if len(self) and len(other) else None,
            }
            for library in (self, other)
        )
        for what, value in mine.items():
            if theirs[what] != value:
                raise ValueError(f"the {what} of the other library is not the one here: {theirs[what]} and {value}.")


def adapted(adapter: Adapter, apply):
    """`f(params, a, x)`: the base with an adapter, for one input, computed on the activations where that costs less."""

    def f(params, a, x):
        return on_activations(apply, params)(adapter.change(params, a), x)

    return f


def outside(index: np.ndarray, size: int) -> np.ndarray:
    """The indices that are neither a specialist in a library of this size nor −1, the base."""
    return index[(index < -1) | (index >= size)]


def _check_index(index, weight, size: int) -> None:
    if not jnp.issubdtype(index.dtype, jnp.integer):
        raise TypeError(f"index is of {index.dtype.name}; expected whole numbers. By a mask choose `library[mask]`.")
    if not isinstance(index, Tracer):
        wrong = outside(np.asarray(index), size)  # by NumPy, which saves three dispatches
        if wrong.size:
            raise IndexError(f"index holds {wrong[0]}; expected −1 for the base, or 0 to {size - 1}.")
    shape = None if weight is None else weight.shape
    if shape != (index.shape if index.ndim == 2 and index.shape[1] else None) or index.ndim not in (1, 2):
        raise ValueError(f"index has shape {index.shape} and weight {shape}; expected [B] alone, or [B, k] for both.")
    if weight is not None:
        check_real("weight", weight)


def _apply(apply, adapter: Adapter, params, parameters, x, index, weight):
    one = jax.vmap(adapted(adapter, apply), in_axes=(None, 0, 0))
    identity, index = adapter.identity(params), _as_int32(index)

    def by(index):
        a = jax.tree.map(partial(_rows_or_base, index), parameters, identity)
        return one(params, a, x)

    if index.ndim == 1:
        return by(index)
    outputs = [by(index[:, k]) for k in range(index.shape[1])]

    def weighted_sum(*leaves):
        if not jnp.issubdtype(leaves[0].dtype, jnp.inexact):
            raise TypeError(f"an output is of {leaves[0].dtype.name}; expected floating point for a weighted sum.")
        share = weight.astype(leaves[0].dtype).reshape(*weight.shape, *(1,) * (leaves[0].ndim - 1))
        return sum(_counted(leaf, share[:, k]) * share[:, k] for k, leaf in enumerate(leaves))

    return jax.tree.map(weighted_sum, *outputs)


def _counted(output, share):
    """Zero for what is not finite and has no weight, such as the log of a probability of 0: 0 · ∞ is NaN."""
    return jnp.where((share != 0) | jnp.isfinite(output), output, 0)


def _as_int32(index):
    """In any dtype −1 stays −1, and what is out of range stays so: 255 does not become −1, nor 2³² 0."""
    known, wide = jnp.iinfo(index.dtype), jnp.iinfo(jnp.int32)
    return jnp.clip(index, max(known.min, -2), min(known.max, wide.max)).astype(jnp.int32)


def _rows_or_base(index, leaf, identity):
    """The rows of a stacked leaf, one for each input; the identity at −1, NaN out of range."""
    if not leaf.shape[0]:
        leaf = jnp.full((1, *identity.shape), jnp.nan, leaf.dtype)  # nothing can be gathered from no rows
    rows = leaf.at[jnp.where(index < 0, leaf.shape[0], index)].get(mode="fill", fill_value=jnp.nan)
    return jnp.where(jnp.expand_dims(index == -1, tuple(range(1, rows.ndim))), identity, rows)


_EXPECTED = "expected names, whole numbers, a slice, or a mask of booleans"


def rows_of(library: Library, which: Any) -> list[int]:
    """The indices of the specialists that are chosen, in the order of the choice.

    Args:
        library: the library.
        which: a name, an index or a slice; several names or indices; or a mask.

    Raises:
        KeyError: a name that is not there.
        IndexError: an index out of range, a mask of another length, or an array with other axes than one.
        TypeError: anything else, such as `True`, a number with a fraction, or a set, which has no order.
    """
    index_of = library._index_of
    if isinstance(which, slice):
        if any(isinstance(end, bool) for end in (which.start, which.stop, which.step)):
            raise TypeError(f"{which} has truth values for its ends; {_EXPECTED}.")
        return list(range(len(index_of)))[which]
    if isinstance(which, np.ndarray | jax.Array):
        if which.ndim > 1:
            raise IndexError(f"an array of shape {which.shape} chooses no specialists; {_EXPECTED}, along one axis.")
        which = np.asarray(which).tolist()
    if isinstance(which, str | bytes | set | frozenset) or not isinstance(which, Iterable):
        return [_row(which, index_of)]
    keys = list(which)
    if not keys or not all(map(_is_truth, keys)):
        return [_row(key, index_of) for key in keys]
    if len(keys) != len(index_of):
        raise IndexError(f"a mask of {len(keys)} booleans; expected {len(index_of)}, one for each specialist.")
    return [row for row, chosen in enumerate(keys) if chosen]


def _is_truth(key: Any) -> bool:
    return isinstance(key, bool) or getattr(key, "dtype", None) == np.bool_


def _row(key: Any, index_of: Mapping[str, int]) -> int:
    size = len(index_of)
    try:
        if _is_truth(key):  # which Python takes for 0 or 1
            raise TypeError
        row = index_of.get(key) if isinstance(key, str) else operator.index(key)
    except TypeError:
        raise TypeError(f"{key!r}, of {type(key).__name__}, chooses no specialist; {_EXPECTED}.") from None
    if row is None or not -size <= row < size:
        error = KeyError if row is None else IndexError  # by which Python ends a loop over the library
        raise error(f"no specialist {key!r} in this library of {size}.")
    return row % size
