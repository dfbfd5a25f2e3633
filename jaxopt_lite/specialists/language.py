"""Text: windows of token ids, and a small language model to make specialists of.

The model is an n-gram model with one hidden layer (Bengio et al., JMLR 2003). Each token of a window is predicted from
the `context` tokens before it:

    h = tanh([E t₋ₙ, …, E t₋₁] W + b),        logits = (h U) Eᵀ + c.

The table E of embeddings is used at both ends (Press and Wolf, EACL 2017), so that a token costs `embed` numbers
without `hidden` more, and the logits of a large vocabulary one product of that width. Adapters change the leaves

    hidden/w [context · embed, hidden], hidden/b [hidden], out/w [hidden, embed] and out/b [vocabulary].

`IA3("out/w", axis=0)` scales the hidden activations, `Shift("hidden/b")` and `Shift("out/b")` move biases.
"""

import math
import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from jaxopt_lite.arguments import whole_number
from jaxopt_lite.bpe.arguments import all_to_bytes, text_list
from jaxopt_lite.bpe.tokenizer import Tokenizer
from jaxopt_lite.lanes.settings import own_settings
from jaxopt_lite.progress import interruptible, progress_bar
from jaxopt_lite.sizes import round_up
from jaxopt_lite.specialists.arguments import POSITIVE, key_seed, number
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.report import Unit

__all__ = ["Windows", "bits_per_byte", "encode", "language_model", "padding", "window_loss", "windows"]

_BYTES = 256
_CHUNK = 50  # steps between two looks at the clock and the keyboard


class Windows(NamedTuple):
    """Windows of a text, ready to be a task of `fit`: inputs, what their predictions are compared with, and weights.

    Attributes:
        x: token ids, padded.
        y: the same, for a language model predicts its own input. Both are read-only; to mask labels, copy them.
        weight: the number of tokens of each window, so that a mean over windows is one over tokens.
    """

    x: Int[np.ndarray, "N length"]
    y: Int[np.ndarray, "N length"]
    weight: Float[np.ndarray, " N"]


def windows(
    texts: str | Iterable[str], tokenizer: Tokenizer | None = None, length: int = 64, stride: int | None = None
) -> Windows:
    """Cut texts into windows. No window holds parts of two texts.

    Args:
        texts: one text, or several.
        tokenizer: the tokenizer; without one, tokens are the bytes of the text in UTF-8.
        length: the length of a window, in tokens.
        stride: the distance from the start of one window to the next; by default `length`, so that none overlap.

    Returns:
        The windows, in the order of the texts; an empty text has none.

    Raises:
        ValueError: a length or stride below 1; `texts` without any text, or that are not strings in order, as a mapping
            or a table; a lone surrogate.

    Example:
        >>> from jaxopt_lite.specialists import windows
        >>> windows("abcde", length=3).x.tolist()
        [[97, 98, 99], [100, 101, 256]]
    """
    length = whole_number("length", length, least=1)
    stride = length if stride is None else whole_number("stride", stride, least=1)
    rows = encode(texts, tokenizer)
    pieces = [row[start : start + length] for row in rows for start in _starts(len(row), length, stride)]
    if not pieces:
        raise ValueError("texts hold no text; expected at least one token.")
    x = np.full((len(pieces), length), padding(tokenizer), np.int32)
    for window, piece in zip(x, pieces, strict=True):
        window[: len(piece)] = piece
    x.flags.writeable = False  # one array stands for both
    return Windows(x, x, np.array([len(piece) for piece in pieces], np.float32))


def _starts(size: int, length: int, stride: int) -> range:
    """Where windows start; none lies entirely inside the one before."""
    return range(0, max(size - max(length - stride, 0), 1) if size else 0, stride)


def encode(texts: str | Iterable[str], tokenizer: Tokenizer | None) -> list[np.ndarray]:
    """The ids of a text or of each of several; bytes that `surrogateescape` kept stay these bytes."""
    texts = [texts] if isinstance(texts, str) else text_list(texts, "A single text is a str.")
    if tokenizer is None:
        return [np.frombuffer(data, np.uint8) for data in all_to_bytes(texts)]
    return [np.asarray(ids, np.int32) for ids in tokenizer.encode_batch(texts, special="ignore")]


def padding(tokenizer: Tokenizer | None) -> int:
    """The id for padding: the one after the last token's."""
    return _BYTES if tokenizer is None else tokenizer.vocab_size


def byte_lengths(tokenizer: Tokenizer | None) -> Int[np.ndarray, " size"]:
    """How many bytes of text each id stands for, including the padding."""
    if tokenizer is None:
        return np.append(np.ones(_BYTES, np.int64), 0)
    vocabulary = tokenizer.vocabulary
    return np.append([len(text) for text in vocabulary.texts] + vocabulary.ends_word, 0)


def language_model(
    texts: str | Iterable[str],
    tokenizer: Tokenizer | None = None,
    *,
    context: int = 4,
    embed: int = 64,
    hidden: int = 64,
    steps: int = 2000,
    batch: int = 32,
    length: int = 64,
    learning_rate: float = 0.01,
    seed: int = 0,
    progress: bool | None = None,
) -> Base:
    """Train a language model on texts, by Adam with a learning rate that falls along a cosine.

    Args:
        texts: what to learn from; long texts count for more.
        tokenizer: the tokenizer; without one, tokens are bytes.
        context: how many preceding tokens a token is predicted from.
        embed: the width of the embeddings.
        hidden: the width of the hidden layer.
        steps: the number of training steps.
        batch: windows per step, drawn at random from the texts.
        length: the length of these windows, in tokens.
        learning_rate: the learning rate at the start.
        seed: the seed of the initial parameters and of the draws.
        progress: whether to show a progress bar. Default: on a terminal and in a notebook.

    Returns:
        A base, for windows of token ids `[w]`, padded as `windows` does: `apply` gives logits `[w, vocabulary]`, and
        the features are the mean embedding and the mean hidden activations, `[embed + hidden]`. After Ctrl-C it is
        the model at that point, with a warning.

    Raises:
        ValueError: sizes below 1; texts that hold no token, or that `windows` refuses; a loss that is NaN or infinite.

    Example:
        >>> from jaxopt_lite import specialists
        >>> texts = ["the cat sat on the mat"] * 9
        >>> base = specialists.language_model(texts, steps=200, progress=False)
        >>> x = specialists.windows("the cat").x
        >>> base.apply(base.params, x[0]).shape
        (64, 256)
    """
    sizes = dict(context=context, embed=embed, hidden=hidden, steps=steps, batch=batch, length=length)
    context, embed, hidden, steps, batch, length = (whole_number(*size, least=1) for size in sizes.items())
    learning_rate, seed = number("learning_rate", learning_rate, POSITIVE), key_seed(seed)
    corpus = _joined(texts, tokenizer, length)
    start, draws = jax.random.split(jax.random.key(seed))
    params = _initial(start, padding(tokenizer), context, embed, hidden)
    params = _train(params, corpus, draws, _Training(learning_rate, steps, batch, length), progress)
    return Base(params, _logits, features=_features, tokenizer=tokenizer, name="n-gram language model")


def window_loss(logits: Float[Array, "w V"], window: Int[Array, " w"]) -> Float[Array, ""]:
    """The mean cross-entropy in nats per token; padding does not count, and a window of nothing else has loss 0."""
    size = logits.shape[-1]
    is_token = window < size
    own = jnp.take_along_axis(logits, jnp.minimum(window, size - 1)[:, None], axis=-1)[:, 0]
    nats = jax.nn.logsumexp(logits, axis=-1) - own
    return jnp.sum(jnp.where(is_token, nats, 0)) / jnp.maximum(jnp.sum(is_token), 1).astype(nats.dtype)


def _logits(params, window: Int[Array, " w"]) -> Float[Array, "w V"]:
    table = params["embed"]
    return (_hidden(params, window) @ params["out"]["w"]) @ table[:-1].T + params["out"]["b"][None]


def _hidden(params, window: Int[Array, " w"]) -> Float[Array, "w hidden"]:
    table, w = params["embed"], window.shape[0]
    context = params["hidden"]["w"].shape[0] // table.shape[1]
    before = table[jnp.concatenate([jnp.full(context, table.shape[0] - 1, window.dtype), window[:-1]])]
    inputs = jnp.concatenate([before[k : k + w] for k in range(context)], axis=-1)
    return jnp.tanh(inputs @ params["hidden"]["w"] + params["hidden"]["b"][None])


def _features(params, window: Int[Array, " w"]) -> Float[Array, " d"]:
    """Mean embedding and mean hidden activations, over the tokens."""
    table = params["embed"]
    both = jnp.concatenate([table[window], _hidden(params, window)], axis=-1)
    is_token = (window < table.shape[0] - 1)[:, None]
    return jnp.sum(jnp.where(is_token, both, 0), axis=0) / jnp.maximum(jnp.sum(is_token), 1).astype(both.dtype)


def _joined(texts: str | Iterable[str], tokenizer: Tokenizer | None, length: int) -> tuple[Int[Array, " tokens"], int]:
    """All texts in one row, and the number of positions where a window may start.

    There is padding after each text, and at least one window of it at the end. The row's length is rounded up, so that
    other texts rarely need a new program.
    """
    end = np.array([padding(tokenizer)], np.int32)
    rows = [row.astype(np.int32) for row in encode(texts, tokenizer) if row.size]
    if not rows:
        raise ValueError("texts hold no text to learn from; expected at least one token.")
    row = np.concatenate([part for row in rows for part in (row, end)])
    return jnp.asarray(np.append(row, end.repeat(round_up(len(row) + length, parts=8) - len(row)))), len(row)


def _initial(key, vocabulary: int, context: int, embed: int, hidden: int) -> dict[str, Any]:
    keys = jax.random.split(key, 3)
    draw = partial(jax.random.normal, dtype=jnp.float32)
    inputs = context * embed
    return {
        "embed": 0.3 * draw(keys[0], (vocabulary + 1, embed)),  # the last is the padding's
        "hidden": {"w": draw(keys[1], (inputs, hidden)) / inputs**0.5, "b": jnp.zeros(hidden, jnp.float32)},
        "out": {"w": draw(keys[2], (hidden, embed)) / hidden**0.5, "b": jnp.zeros(vocabulary, jnp.float32)},
    }


class _Training(NamedTuple):
    """The settings of one training run; each combination compiles its own program."""

    learning_rate: float
    steps: int
    batch: int
    length: int

    @property
    def adam(self) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.steps))


def _train(params, corpus, key, training: _Training, shows: bool | None):
    """The trained parameters; on the host, chunk by chunk."""
    steps, state, done = training.steps, training.adam.init(params), 0
    with own_settings(), interruptible(), progress_bar(shows) as bar:
        task = bar.add_task("training", total=steps)
        try:
            while done < steps:
                stop = min(done + _CHUNK, steps)
                new, state, loss = _steps(training, params, state, corpus, key, done, stop)
                loss = float(loss)
                if not np.isfinite(loss):
                    raise ValueError(f"the loss is {loss} after {stop} steps; try a smaller learning_rate.")
                params, done = new, stop
                bar.update(task, completed=done, description=f"training, loss {loss:.3f}")
        except KeyboardInterrupt:
            warnings.warn(f"interrupted after {done} of {steps} steps; the model is as it was then.", stacklevel=3)
    return params


@partial(jax.jit, static_argnums=0)
def _steps(training: _Training, params, state, corpus, key, start, stop):
    """Steps `start` to `stop` of Adam, and the last loss."""
    update, batch, length = training.adam.update, training.batch, training.length
    tokens, starts = corpus

    def mean_loss(params, x):
        losses = jax.vmap(lambda window: window_loss(_logits(params, window), window))(x)
        weight = jnp.sum(x < params["embed"].shape[0] - 1, axis=1)
        return jnp.sum(losses * weight) / jnp.maximum(jnp.sum(weight), 1)

    def step(k, carry):
        params, state, _ = carry
        first = jax.random.randint(jax.random.fold_in(key, k), (batch, 1), 0, starts)
        loss, grad = jax.value_and_grad(mean_loss)(params, tokens[first + jnp.arange(length)])
        changes, state = update(grad, state)
        return optax.apply_updates(params, changes), state, loss

    return lax.fori_loop(start, stop, step, (params, state, jnp.zeros((), jnp.float32)))


def bits_per_byte(tokenizer: Tokenizer | None = None) -> Unit:
    """Bits per byte of text, for windows of token ids with losses in nats per token.

    A window's bytes count as often as its tokens: once if its weight is their number, as `windows` sets it.

    Args:
        tokenizer: the tokenizer; without one, tokens are bytes.

    Example:
        >>> import numpy as np
        >>> from jaxopt_lite.specialists import bits_per_byte, windows
        >>> x, _, weight = windows("abcde", length=3)
        >>> nats = np.full(2, np.log(256))  # a token, for each window
        >>> float((weight * nats).sum() / bits_per_byte().amount(x, weight).sum())
        8.0
    """
    lengths = math.log(2) * byte_lengths(tokenizer)

    def amount(x, weight):
        x = np.asarray(x)
        tokens = np.sum(x < padding(tokenizer), axis=-1)
        return lengths[x].sum(axis=-1) * (weight / np.maximum(tokens, 1))

    return Unit("bits per byte", amount)
