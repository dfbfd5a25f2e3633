"""The small language model, its windows and units."""

from functools import cache

import jax
import numpy as np
import pytest

from jaxopt_lite import bpe, specialists
from jaxopt_lite.specialists import IA3, LoRA, Shift, bits_per_byte, language_model, window_loss, windows
from jaxopt_lite.specialists import language as module

pytestmark = pytest.mark.hardly_optimized

TEXT = "the cat sat on the mat, and the dog sat on the cat. " * 20
SMALL = dict(embed=8, hidden=8, steps=300, batch=8, length=32, progress=False)


@pytest.fixture
@cache  # and not the fixture: one of the module would be compiled before the tests say how
def base():
    return language_model(TEXT, **SMALL)


def mean_bits(base, text):
    x, _, weight = windows(text, base.tokenizer)
    losses = np.asarray(jax.jit(jax.vmap(lambda x: window_loss(base.apply(base.params, x), x)))(x))
    return float((losses * weight).sum() / bits_per_byte(base.tokenizer).amount(x, weight).sum())


def test_it_learns_and_the_same_again(base):
    again = language_model(TEXT, **SMALL)
    assert base.fingerprint == again.fingerprint
    assert language_model(TEXT, **SMALL | {"seed": 1}).fingerprint != base.fingerprint
    assert mean_bits(base, TEXT) < 2.5 < mean_bits(base, "XQZ VWK 0123 {}" * 20)


def test_another_training_of_the_same_size_compiles_nothing(base):
    programs = module._steps._cache_size()
    other = language_model(TEXT[:-30], **SMALL | {"seed": 2, "steps": np.int64(300)})
    assert other.fingerprint != base.fingerprint and module._steps._cache_size() == programs


def test_a_token_is_predicted_from_those_before_it_only(base):
    x = windows("the cat sat", length=16).x[0]
    apply = jax.jit(base.apply)
    logits = np.asarray(apply(base.params, x))
    assert logits.shape == (16, 256) and logits.dtype == np.float32
    for k in range(11):
        changed = np.asarray(apply(base.params, np.where(np.arange(16) == k, 90, x)))
        differs = np.abs(changed - logits).max(axis=1) > 0
        assert differs.tolist() == [k < j <= k + 4 for j in range(16)]


def test_features_do_not_see_padding(base):
    short, long = windows("the cat", length=7).x, windows("the cat", length=32).x
    np.testing.assert_allclose(base.embed(short), base.embed(long), atol=1e-6)
    assert base.embed(long).shape == (1, 16)
    assert not np.any(np.isnan(base.embed(np.full((1, 5), 256))))


def test_the_loss_is_a_mean_over_tokens():
    logits = np.random.default_rng(0).normal(size=(4, 5))
    by_hand = np.mean([np.log(np.exp(logits[k]).sum()) - logits[k, token] for k, token in enumerate((2, 0, 4))])
    loss = jax.jit(jax.value_and_grad(window_loss))
    assert np.isclose(loss(logits, np.array([2, 0, 4, 5]))[0], by_hand, atol=1e-6)
    value, slope = loss(logits, np.full(4, 5))
    assert value == 0 and np.all(np.isfinite(slope))


@pytest.mark.parametrize("part", [IA3("out/w", axis=0), Shift("hidden/b"), Shift("out/b"), LoRA("hidden/w", rank=2)])
def test_its_leaves_are_those_that_adapters_change(base, part):
    adapter = part + IA3("embed")
    x = windows(TEXT).x[0]
    same = adapter.apply(base.params, adapter.identity(base.params))
    np.testing.assert_array_equal(base.apply(same, x), base.apply(base.params, x))


def test_tokens_of_a_tokenizer():
    tokenizer = bpe.train([TEXT], vocab_size=270)
    base = language_model([TEXT, TEXT[:50]], tokenizer, **SMALL)
    x, _, weight = windows(TEXT, tokenizer, length=16)
    assert base.tokenizer is tokenizer and base.apply(base.params, x[0]).shape == (16, tokenizer.vocab_size)
    assert weight.sum() == len(tokenizer.encode(TEXT)) and x[-1, -1] in (tokenizer.vocab_size, x.max())
    total = bits_per_byte(tokenizer).amount(x, weight).sum() / np.log(2)
    assert np.isclose(total, len(TEXT))
    assert mean_bits(base, TEXT) < 2.5


def test_masking_labels_masks_no_inputs():
    """Inputs and labels are one array: whoever writes to it would write to both."""
    x, y, _ = windows(TEXT, length=8)
    for array in (x, y):
        with pytest.raises(ValueError, match="read-only"):
            array[:, :4] = 256
    masked = y.copy()
    masked[:, :4] = 256
    assert x[0, 0] == y[0, 0] != masked[0, 0]


def test_bytes_count_as_often_as_their_tokens():
    """Twice the weights change nothing, windows of weight 0 neither, and without weights a window is one example."""
    x, _, weight = windows("abcdefg", length=4)
    amount, nats = bits_per_byte().amount, np.array([2.0, 3.0])
    bits = lambda weight: (weight * nats).sum() / amount(x, weight).sum() * np.log(2)
    assert np.isclose(bits(weight), (4 * 2 + 3 * 3) / 7) and np.isclose(bits(2 * weight), bits(weight))
    assert np.isclose(bits(np.array([0.0, 3.0])), 3) and np.isclose(bits(np.ones(2)), 2.5)


@pytest.mark.parametrize("length, stride", [(4, None), (4, 2), (3, 5), (5, 3), (26, 1), (40, 1)])
def test_windows_hold_the_text(length, stride):
    text = "abcdefghijklmnopqrstuvwxyz"
    x, y, weight = windows(["", text], length=length, stride=stride)
    step = stride or length
    pieces = [bytes(row[row < 256].tolist()).decode() for row in x]
    assert pieces == [text[k * step : k * step + length] for k in range(len(x))]
    assert len(set(pieces)) == len(pieces) and (x is y) and weight.tolist() == list(map(len, pieces))
    assert pieces[-1].endswith("z")


def test_bytes_that_are_no_text_are_kept():
    text = b"a\xff\xc3".decode("utf-8", "surrogateescape")
    assert windows(text, length=4).x.tolist() == [[97, 255, 195, 256]]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: language_model([]), "texts hold no text"),
        (lambda: language_model(["", ""]), "texts hold no text"),
        (lambda: language_model(TEXT, steps=0), "steps=0"),
        (lambda: language_model(TEXT, hidden=0), "hidden=0"),
        (lambda: windows([]), "texts hold no text"),
        (lambda: windows({"a name": "a text"}), "texts is one dict"),
        (lambda: language_model({"a name": "a text"}), "texts is one dict"),
        (lambda: windows(["a text", b"a text"]), r"texts\[1\] is bytes"),
        (lambda: windows("\ud800"), "lone surrogate"),
        (lambda: windows(TEXT, length=0), "length=0"),
        (lambda: windows(TEXT, stride=0), "stride=0"),
        (lambda: language_model(TEXT, **SMALL | {"learning_rate": 1e30}), "smaller learning_rate"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_ctrl_c_keeps_the_model(monkeypatch):
    run, calls = module._steps, []

    def steps(*arguments):
        calls.append(arguments[-1])
        if len(calls) > 2:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(module, "_steps", steps)
    with pytest.warns(UserWarning, match="interrupted after 100 of 300 steps"):
        base = language_model(TEXT, **SMALL)
    assert calls == [50, 100, 150] and np.isfinite(base.params["embed"]).all()


def test_the_room_has_it():
    assert specialists.language_model is language_model
