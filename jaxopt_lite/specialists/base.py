"""The one model that all specialists share: its function, its parameters, and what a router sees of an input."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from jaxopt_lite.arguments import assign
from jaxopt_lite.lanes.batch import on_host
from jaxopt_lite.lanes.capture import Signature, run
from jaxopt_lite.specialists.arguments import frozen, inputs, is_unicode, remembered, text, vector
from jaxopt_lite.specialists.leaves import digest, leaf_names, named_leaves

__all__ = ["Base", "batched", "no_mesh", "off_mesh"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Base:
    """A model, written for one input. As a pytree its parameters are its leaves.

    Its functions always see current values: globals, edited arrays and attributes may change between calls. Whatever
    may have changed unnoticed, such as a large NumPy array, is traced again at every call; under `jax.jit` it is traced
    once and stays as it was.

    Args:
        params: its parameters, a pytree of arrays. NumPy arrays are copied, so later edits do not change the base.
        apply: `apply(params, x) -> y`, any JAX function.
        features: `features(params, x) -> [d]`, what a router sees of an input; without it nothing can be routed.
        tokenizer: the tokenizer that made the inputs from text, if any: a `bpe.Tokenizer`, or anything with a
            `fingerprint`, a string.
        name: the model's name, part of its fingerprint. Two functions with the same parameters need different names.

    Raises:
        TypeError: an `apply` or `features` that is not a function, a `name` that is not a string; a function or a
            string among the parameters.
        ValueError: a `name` that UTF-8 cannot write.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Base
        >>> apply = lambda params, x: x @ params["w"]
        >>> base = Base({"w": jnp.ones((2, 1))}, apply, features=lambda params, x: x)
        >>> base.apply(base.params, jnp.arange(2.0)).tolist()
        [1.0]
    """

    params: PyTree
    apply: Callable[[PyTree, PyTree], PyTree] = field(metadata={"static": True})
    features: Callable[[PyTree, PyTree], Array] | None = field(default=None, metadata={"static": True})
    tokenizer: Any = field(default=None, metadata={"static": True})
    name: str = field(default="base", metadata={"static": True})

    def __post_init__(self):
        if not callable(self.apply):
            raise TypeError(f"apply is {type(self.apply).__name__}; expected a function apply(params, x).")
        if self.features is not None and not callable(self.features):
            raise TypeError(f"features is {type(self.features).__name__}; expected a function features(params, x).")
        if not is_unicode(text("name", self.name)):
            raise ValueError(f"name={self.name!r}: expected a string that UTF-8 can write.")
        _check_no_functions(self.params)
        assign(self, params=frozen(self.params))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the name and the parameters; on the host."""
        leaves = jax.tree.leaves(self.params)
        return remembered(self, "_fingerprint", leaves, lambda: digest(_by_name(self.params), self.name))

    @property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of the tokenizer; empty without one."""
        return remembered(self, "_tokenizer_fingerprint", (), lambda: _tokenizer_digest(self.tokenizer))

    def embed(self, x: PyTree) -> Float[Array, "B d"]:
        """The features of a batch of inputs, whose leaves are `[B, ...]`.

        Raises:
            ValueError: a base without `features`, or whose features are not a vector for one input.
        """
        if self.features is None:
            raise ValueError("this base has no features; give Base(..., features=lambda params, x: ...) to route by.")
        x = inputs(x)
        return run(_embedded, (), [(self.features, self.signature(x))], self.params, x)

    def signature(self, x: PyTree, changed: bool = False) -> Signature:
        """The arguments of `apply` and `features` for one of a batch of inputs, whose leaves are `[B, ...]`.

        Args:
            x: the batch.
            changed: whether the parameters will be changed ones, which are sharded as the inputs are, not as these are.
        """
        known = remembered(self, "_signatures", jax.tree.leaves(self.params), dict)
        leaves, tree = jax.tree.flatten(x)
        key = tree, tuple(map(jax.typeof, leaves)), jax.config.jax_enable_x64, changed  # pyright: ignore[reportAttributeAccessIssue]
        if key not in known:
            arguments = jax.tree.map(_not_sharded, (self.params, x)) if changed else (self.params, x)
            known[key] = Signature.of(*arguments, mapped=(0, 1))
        return known[key]


def _check_no_functions(params: PyTree) -> None:
    """Refuse what a module of Equinox holds besides arrays; tracers and whatever else stands for arrays may be there.

    Raises:
        TypeError: a function or a string.
    """
    leaves = jax.tree.leaves(params)
    for row, leaf in enumerate(leaves):
        if callable(leaf) or isinstance(leaf, str):
            raise TypeError(
                f"params has a leaf {leaf_names(params)[row]!r} that is {type(leaf).__name__}; expected arrays. Divide "
                "a module of Equinox by `eqx.partition(module, eqx.is_array)`, and combine its two parts in apply."
            )


def _not_sharded(leaf: Any) -> jax.ShapeDtypeStruct:
    whole = jax.typeof(leaf)
    return jax.ShapeDtypeStruct(whole.shape, whole.dtype, weak_type=whole.weak_type)


def batched(function: Callable[[PyTree, PyTree], PyTree], params: PyTree, x: PyTree) -> PyTree:
    """`function(params, x)` for each of a batch of inputs, leaves `[B, ...]`."""
    return jax.vmap(function, in_axes=(None, 0))(params, x)


def off_mesh(params: PyTree) -> PyTree:
    """The parameters for a solve that has a mesh of its own, or none: on the host, where they lie on another mesh.

    JAX refuses to mix meshes, and the error does not say of which argument. With one device there is nothing to mix.
    """
    if jax.local_device_count() == 1:
        return params
    return jax.tree.map(lambda leaf: leaf if jax.typeof(leaf).sharding.mesh.empty else np.asarray(leaf), params)


def no_mesh() -> AbstractContextManager:
    """A context without the mesh set by `jax.set_mesh`, for a solve that has its own: JAX allows only one at a time."""
    if jax.sharding.get_abstract_mesh().empty:
        return nullcontext()
    return jax.set_mesh(Mesh(np.empty((), object), ()))


def _embedded(features: Callable[[PyTree, PyTree], Array], params: PyTree, x: PyTree) -> Array:
    return batched(vector(features), params, x)


def _by_name(params: PyTree) -> dict[str, np.ndarray]:
    return {name: on_host(leaf) for name, leaf in named_leaves(params).items()}


def _tokenizer_digest(tokenizer: Any) -> str:
    """The fingerprint of a tokenizer. This room reads attributes of `bpe.Tokenizer`, and does not import it."""
    if tokenizer is None:
        return ""
    if hasattr(tokenizer, "fingerprint"):
        return text("tokenizer.fingerprint", tokenizer.fingerprint)
    v, words = tokenizer.vocabulary, tokenizer.splitter
    tokens = {f"{k}": np.frombuffer(token, np.uint8) for k, token in enumerate(v.tokens)}
    merges = {"merges": v.merges, "merged": v.merged}
    cut = f"Splitter(name={words.name!r}, pattern={words.pattern!r}, end_of_word={words.end_of_word!r})"
    texts = [repr(sorted(v.special_tokens.items())), v.level, cut]
    # Without anything that came later, the fingerprint is that of earlier versions.
    if v.added_tokens or v.found_last:
        texts += [repr(sorted(v.added_tokens.items())), repr(sorted(v.found_last))]
    later = words.normalizer, words.steps, sorted(v.flags.items()), v.prefix, v.suffix, v.fuses_unknown, v.by_token
    if any(later):
        texts.append(repr(later))
    if v.whole_words and not set(v.base) <= set(v.symbol_of.values()):  # tokens that are words only by this rule
        texts.append("whole words")
    return digest(tokens | merges, *texts)
