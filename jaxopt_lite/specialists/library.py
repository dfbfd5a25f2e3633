"""Very many specialists of one base: their adapters stacked, what a router knows of each, and a card each."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PyTree

from jaxopt_lite.specialists.activations import on_activations
from jaxopt_lite.specialists.adapters import Adapter, Parameters
from jaxopt_lite.specialists.base import Base, digest

__all__ = ["Card", "Library", "Profile", "adapted"]


@dataclass(frozen=True)
class Card:
    """What is known of one specialist beside its numbers.

    Attributes:
        name: unique in a library.
        examples: how many it was fitted to.
        loss: the mean loss on them; None where it is not known or not finite.
        status: what became of its fit, by the name of a `Status`.
        parents: the ids of the specialists it was made of.
        recipe: how it was made of them.
        author: who made it.
        licence: under which it may be used.
        notes: anything else.
    """

    name: str
    examples: int = 0
    loss: float | None = None
    status: str = ""
    parents: tuple[str, ...] = ()
    recipe: str = ""
    author: str = ""
    licence: str = ""
    notes: str = ""

    def __post_init__(self):
        # NaN is unlike itself, so that a card that holds it would be too, and a library with it new to every `jit`.
        if self.loss is not None and not math.isfinite(self.loss):
            object.__setattr__(self, "loss", None)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Profile:
    """What a specialist ships for routers and merges, stacked; d features, and arrays like the parameters.

    Attributes:
        count: the number of examples.
        mean: the mean features of its inputs.
        fisher: the diagonal of the empirical Fisher information of its parameters: the mean over the examples of the
            squared gradient of the loss.
        gate: a direction in feature space, learned by `fit_gates`; zero where it was not.
    """

    count: Float[Array, " T"]
    mean: Float[Array, "T d"]
    fisher: Parameters
    gate: Float[Array, "T d"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Library:
    """T specialists of one base. Nothing changes it; what adds or removes gives a new one.

    As a pytree its leaves are the parameters of the base, of the adapters `[T, ...]`, and the profile.

    Attributes:
        base: the model.
        parameters: of the adapters, stacked.
        profile: for routers and merges, stacked.
        adapter: what the parameters mean.
        cards: one each.
    """

    base: Base
    parameters: Parameters
    profile: Profile
    adapter: Adapter = field(metadata={"static": True})
    cards: tuple[Card, ...] = field(metadata={"static": True})

    def __post_init__(self):
        repeated = {name for name in self.names if self.names.count(name) > 1} if len(self._places) < len(self) else ()
        if repeated:
            raise ValueError(f"cards: the names {', '.join(sorted(repeated))} are there more than once.")

    def __len__(self) -> int:
        return len(self.cards)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __getitem__(self, which: str | int | Sequence[str] | Sequence[int] | slice) -> "Library":
        """The library of some specialists, by name, place or slice."""
        return self._take(self._rows(which))

    def __repr__(self) -> str:
        kinds = " + ".join(f"{type(part).__name__}({part.path})" for part in self.adapter.parts)
        return f"Library({len(self)} specialists of {self.base.name}, {kinds}, {self.size} numbers each)"

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each."""
        return tuple(card.name for card in self.cards)

    @property
    def size(self) -> int:
        """The number of parameters of one specialist."""
        return self.adapter.size(self.base.params)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {card.name: place for place, card in enumerate(self.cards)}

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The content hash of each: of its adapter, its parameters, and its base. On the host."""
        arrays = jax.tree.map(np.asarray, self.parameters)
        texts = self.base.fingerprint, self.base.tokenizer_fingerprint, repr(self.adapter.spec())
        return tuple(digest({key: array[row] for key, array in arrays.items()}, *texts) for row in range(len(self)))

    def adapter_of(self, name: str) -> Parameters:
        """The parameters of one specialist's adapter."""
        (row,) = self._rows(name)
        return jax.tree.map(lambda leaf: leaf[row], self.parameters)

    def add(self, other: "Library") -> "Library":
        """Those of both, the ones here first. What both have, by name and id, is kept as it is here.

        The id says that the parameters are the same, to the bit; the other's card and profile are then dropped.

        Raises:
            ValueError: another base, tokenizer or adapter; one name for different specialists.
        """
        self._check_kin(other)
        both = [name for name in other.names if name in self]
        for name in both:
            if self.ids[self._places[name]] != other.ids[other._places[name]]:
                raise ValueError(f"both libraries have a {name!r}, and not the same one; `rename` one of them.")
        new = other[[name for name in other.names if name not in self]]
        parameters, profile = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), self._arrays, new._arrays)
        return self._with(parameters, profile, self.cards + new.cards)

    def remove(self, names: str | Iterable[str]) -> "Library":
        """All but these.

        Raises:
            KeyError: a name that is not there.
        """
        gone = set(self._rows([names] if isinstance(names, str) else list(names)))
        return self._take([row for row in range(len(self)) if row not in gone])

    def rename(self, names: Mapping[str, str]) -> "Library":
        """With new names for some: old -> new."""
        self._rows(list(names))
        cards = tuple(replace(card, name=names.get(card.name, card.name)) for card in self.cards)
        return self._with(self.parameters, self.profile, cards)

    def apply(self, x: PyTree, index: Int[Array, " B"] | Int[Array, "B k"], weight: Array | None = None) -> PyTree:
        """The outputs for a batch of inputs, each by specialists of its own, in one call; no model is made per input.

        Args:
            x: inputs, leaves `[B, ...]`.
            index: the specialist for each input, −1 for the base; or k of them.
            weight: with k of them, how much each counts in the weighted sum of the outputs, `[B, k]`.

        Returns:
            What `base.apply` returns, leaves `[B, ...]`. NaN where an index under `jit` is out of range.

        Raises:
            IndexError: an index out of range that can be seen.
            ValueError: k specialists without weights, or weights of another shape.
        """
        index = jnp.asarray(index)
        _check_index(index, weight, len(self))
        return _apply(self.base.params, self.parameters, x, index, weight, apply=self.base.apply, adapter=self.adapter)

    @property
    def _arrays(self) -> tuple[Parameters, Profile]:
        return self.parameters, self.profile

    def _with(self, parameters, profile, cards) -> "Library":
        return replace(self, parameters=parameters, profile=profile, cards=cards)

    def _take(self, rows: Sequence[int]) -> "Library":
        places = np.asarray(rows, np.int32)
        parameters, profile = jax.tree.map(lambda leaf: leaf[places], self._arrays)
        return self._with(parameters, profile, tuple(self.cards[row] for row in rows))

    def _rows(self, which) -> list[int]:
        if isinstance(which, slice):
            return list(range(len(self)))[which]
        keys = [which] if isinstance(which, str | int | np.integer) else list(which)
        rows = []
        for key in keys:
            row = self._places.get(key) if isinstance(key, str) else int(key)
            if row is None or not -len(self) <= row < len(self):
                raise KeyError(f"no specialist {key!r} in this library of {len(self)}.")
            rows.append(row % len(self))
        return rows

    def _check_kin(self, other: "Library") -> None:
        mine, theirs = (
            {
                "base": library.base.fingerprint,
                "tokenizer": library.base.tokenizer_fingerprint,
                "adapter": library.adapter,
                "dtype": {str(leaf.dtype) for leaf in jax.tree.leaves(library.parameters)},
            }
            for library in (self, other)
        )
        for what, value in mine.items():
            if theirs[what] != value:
                raise ValueError(f"the {what} of the other library is not the one here: {theirs[what]} and {value}.")


def adapted(adapter: Adapter, apply):
    """`f(params, a, x)`: the base with an adapter, for one input, computed on the activations where that is less."""

    def f(params, a, x):
        return on_activations(apply, params)(adapter.change(params, a), x)

    return f


def _check_index(index, weight, size: int) -> None:
    if not isinstance(index, Tracer):
        values = np.asarray(index)  # three operations less to dispatch
        outside = (values < -1) | (values >= size)
        if outside.any():
            value = values[outside].flat[0]
            raise IndexError(f"index holds {value}; expected −1 for the base, or 0 to {size - 1}.")
    if (index.ndim == 2) != (weight is not None) or (weight is not None and jnp.shape(weight) != index.shape):
        shape = None if weight is None else jnp.shape(weight)
        raise ValueError(f"index has shape {index.shape} and weight {shape}; expected [B] alone, or [B, k] for both.")


@partial(jax.jit, static_argnames=("apply", "adapter"))
def _apply(params, parameters, x, index, weight, apply, adapter):
    one = jax.vmap(adapted(adapter, apply), in_axes=(None, 0, 0))
    identity = adapter.identity(params)

    def by(index):
        a = jax.tree.map(partial(_rows_or_base, index), parameters, identity)
        return one(params, a, x)

    if index.ndim == 1:
        return by(index)
    outputs = [by(index[:, k]) for k in range(index.shape[1])]

    def mean(*leaves):
        share = weight.astype(leaves[0].dtype).reshape(*weight.shape, *(1,) * (leaves[0].ndim - 1))
        return sum(leaf * share[:, k] for k, leaf in enumerate(leaves))

    return jax.tree.map(mean, *outputs)


def _rows_or_base(index, leaf, identity):
    """The rows of a stacked leaf, the identity at −1, NaN out of range; it copies as many as the batch has."""
    if not leaf.shape[0]:
        leaf = jnp.full((1, *identity.shape), jnp.nan, leaf.dtype)  # no gather is from nothing
    rows = leaf.at[jnp.where(index < 0, leaf.shape[0], index)].get(mode="fill", fill_value=jnp.nan)
    return jnp.where(jnp.expand_dims(index == -1, tuple(range(1, rows.ndim))), identity, rows)
