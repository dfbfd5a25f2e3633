"""A folder that someone else has written: what it says, and why it is refused."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxopt_lite.specialists import IA3, LDA, Base, Geometry, LoRA, Shift, TorchNames, load_peft
from jaxopt_lite.specialists.peft import loading
from tests.specialists.small import library_of, random_library

pytestmark = pytest.mark.hardly_optimized

RNG = np.random.default_rng(0)
IN, OUT = 3, 4


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


PARAMS = {
    "fc": {"kernel": draw(IN, OUT), "bias": draw(OUT)},
    "wte": {"embedding": draw(5, IN)},
    "norm": {"scale": draw(3)},
}
BASE = Base(
    PARAMS,
    lambda params, x: x @ params["fc"]["kernel"] + params["fc"]["bias"],
    features=lambda params, x: jnp.tile(x, 2)[:4],
)
A, B = draw(2, IN), draw(OUT, 2)
FACTORS = {"fc.lora_A.weight": A, "fc.lora_B.weight": B}
SETTINGS = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "target_modules": ["fc"], "base_model_name_or_path": "gpt2"}
IA3_SETTINGS = {"peft_type": "IA3", "target_modules": ["fc"], "feedforward_modules": []}


def written(folder, tensors=FACTORS, prefix="base_model.model.", **settings):
    folder.mkdir(exist_ok=True)
    known = (IA3_SETTINGS if settings.get("peft_type") == "IA3" else SETTINGS) | settings
    (folder / "adapter_config.json").write_text(json.dumps(known))
    save_file(
        {prefix + name: np.ascontiguousarray(array) for name, array in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


def changed(library):
    return library.adapter.apply(BASE.params, library.adapter_of(library.names[0]))


def test_lora_of_a_linear_layer(tmp_path):
    library = load_peft(written(tmp_path / "an adapter"), BASE)
    np.testing.assert_allclose(changed(library)["fc"]["kernel"], PARAMS["fc"]["kernel"] + 3 / 2 * (B @ A).T, rtol=1e-5)
    card = library.cards[0]
    assert (card.name, card.notes) == ("an adapter", "an adapter of PEFT, base_model_name_or_path=gpt2")
    assert library.adapter.parts == (LoRA("fc/kernel", rank=2, alpha=3),) and library.profile.mean.shape == (1, 0)
    x = draw(6, IN)
    expected = x @ PARAMS["fc"]["kernel"] + 3 / 2 * (x @ A.T) @ B.T + PARAMS["fc"]["bias"]
    np.testing.assert_allclose(library.apply(x, np.zeros(6, int)), expected, rtol=1e-4, atol=1e-5)


def test_an_alpha_of_the_rank_is_the_default_here(tmp_path):
    assert load_peft(written(tmp_path, lora_alpha=2), BASE).adapter.parts == (LoRA("fc/kernel", rank=2),)


def test_ia3_scales_the_outputs_with_the_bias_or_the_inputs(tmp_path):
    scale = draw(OUT, 1)
    found = changed(load_peft(written(tmp_path, {"fc.ia3_l": scale}, peft_type="IA3"), BASE))["fc"]
    np.testing.assert_allclose(found["kernel"], PARAMS["fc"]["kernel"] * scale.T, rtol=1e-5)
    np.testing.assert_allclose(found["bias"], PARAMS["fc"]["bias"] * scale[:, 0], rtol=1e-5)
    scale = draw(1, IN)
    rule = {"peft_type": "IA3", "feedforward_modules": "f."}
    found = changed(load_peft(written(tmp_path, {"fc.ia3_l": scale}, **rule), BASE))["fc"]
    np.testing.assert_allclose(found["kernel"], PARAMS["fc"]["kernel"] * scale.T, rtol=1e-5)
    assert np.array_equal(found["bias"], PARAMS["fc"]["bias"])


def test_half_precision_is_read_before_anything_is_computed(tmp_path):
    scale = np.linspace(0.01, 3, OUT).astype(np.float16)[:, None]
    library = load_peft(written(tmp_path, {"fc.ia3_l": scale}, peft_type="IA3"), BASE)
    assert np.array_equal(library.parameters["scale:fc/kernel"][0], scale[:, 0].astype(np.float32) - 1)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_what_the_dtype_of_the_base_cannot_hold_is_refused(tmp_path, dtype):
    """A cast made infinity of it, or whole numbers."""
    base = Base({"fc": {"kernel": np.ones((IN, OUT), dtype)}}, BASE.apply)
    lora = written(tmp_path / "lora", {"fc.lora_A.weight": A, "fc.lora_B.weight": 1e5 * B})
    ia3 = written(tmp_path / "ia3", {"fc.ia3_l": np.full((OUT, 1), 1e5, np.float32)}, **IA3_SETTINGS)
    whole = written(tmp_path / "whole", {"fc.weight": np.full((OUT, IN), 1e5, np.float32)}, target_modules=[])
    for folder, what in ((lora, "the up"), (ia3, "the scale"), (whole, "the shift")):
        why = f"{what} of 'fc/kernel' is out of range in float16" if dtype == "float16" else "'fc/kernel': it is int8"
        with pytest.raises(ValueError, match=why):
            load_peft(folder, base)
    if dtype == "int8":
        with pytest.raises(ValueError, match="LoRA on 'fc/kernel': it is int8; expected floating-point"):
            LoRA("fc/kernel").identity("fc/kernel", base.params["fc"]["kernel"])


def test_a_bias_is_where_this_version_or_an_earlier_one_put_it(tmp_path):
    for name in ("fc.base_layer.bias", "fc.bias"):
        library = load_peft(written(tmp_path, FACTORS | {name: draw(OUT)}, bias="lora_only"), BASE)
        assert library.adapter.parts == (Shift("fc/bias"), LoRA("fc/kernel", rank=2, alpha=3))


def test_what_is_saved_along_and_as_in_the_base_is_no_change(tmp_path):
    factors = {"wte.lora_embedding_A": draw(2, 5), "wte.lora_embedding_B": draw(IN, 2)}
    table = {"wte.base_layer.weight": PARAMS["wte"]["embedding"]}
    library = load_peft(written(tmp_path, factors | table, target_modules=["wte"]), BASE)
    assert library.adapter.parts == (LoRA("wte/embedding", rank=2, alpha=3),)


def test_a_specialist_of_a_library_has_its_adapter(tmp_path):
    """LoRA is filled up to its rank and brought to its scale; what the file does not change is not changed."""
    parts = LoRA("fc/kernel", rank=3, alpha=1.5, seed=7) + LoRA("wte/embedding", rank=1) + Shift("fc/bias")
    library = random_library(BASE, parts, "ab")
    assert library.profile.mean.shape[1] == 4
    found = load_peft(written(tmp_path), library, name="c")
    assert found.adapter == library.adapter and library.add(found).names == ("a", "b", "c")
    assert found.profile.mean.shape == (1, 4) and not found.profile.count.any()
    after = changed(found)
    np.testing.assert_allclose(after["fc"]["kernel"], PARAMS["fc"]["kernel"] + 3 / 2 * (B @ A).T, rtol=1e-5)
    assert np.array_equal(after["wte"]["embedding"], PARAMS["wte"]["embedding"])
    assert np.array_equal(after["fc"]["bias"], PARAMS["fc"]["bias"])
    geometry = Geometry(np.zeros(4), np.eye(4), np.float32(np.inf), np.float32(1), BASE.fingerprint)
    chosen = LDA.of(library.add(found), geometry)(draw(50, 4))
    assert 2 not in chosen.tolist()  # nothing is known of its inputs
    none = library[[]]
    assert load_peft(tmp_path, none, name="c").ids == found.ids


def test_the_linear_form_of_a_library_takes_lora(tmp_path):
    found = load_peft(written(tmp_path), random_library(BASE, Shift("fc/*"), "a"))
    np.testing.assert_allclose(changed(found)["fc"]["kernel"], PARAMS["fc"]["kernel"] + 3 / 2 * (B @ A).T, rtol=1e-5)


def test_settings_that_are_not_known_are_left_out_and_said(tmp_path):
    folder = written(tmp_path, use_novelty=True)
    with pytest.warns(UserWarning, match=r"were left out: {'use_novelty': True}") as said:
        load_peft(folder, BASE)
    assert said[0].filename == __file__


def arrays(change, **settings):
    return lambda folder: written(folder, FACTORS | change, **settings)


def lacks(name, **settings):
    return lambda folder: written(folder, {k: v for k, v in FACTORS.items() if k != name}, **settings)


REFUSED = {
    "a shape": (
        arrays({"fc.lora_A.weight": draw(2, 9)}),
        "'fc.lora_A.weight' has shape (2, 9); expected (2, 3): rank 2, 3 inputs, 4 outputs",
    ),
    "the other order": (
        arrays({"fc.lora_B.weight": B.T}),
        "'fc.lora_B.weight' has shape (2, 4); expected (4, 2): rank 2",
    ),
    "another rank": (
        lambda folder: written(folder, r=8),
        "'fc.lora_A.weight' has shape (2, 3); expected (8, 3): rank 8",
    ),
    "no second factor": (
        lacks("fc.lora_B.weight"),
        "the module 'fc' has .lora_A.weight; expected .lora_A.weight, .lora_B",
    ),
    "another module": (
        lambda folder: written(folder, {"a.lora_A.weight": A, "a.lora_B.weight": B}),
        "the module 'a' is not one of the base's: expected 'base_model.model.' and an array of LoRA or IA3 for 'fc",
    ),
    "DoRA": (
        arrays({"fc.lora_magnitude_vector": draw(OUT)}),
        "'base_model.model.fc.lora_magnitude_vector' is not a known array",
    ),
    "without PEFT's prefix": (
        lambda folder: written(folder, prefix=""),
        "'fc.lora_A.weight' is not a known array",
    ),
    "a bias twice": (
        arrays({"fc.bias": draw(OUT), "fc.base_layer.bias": draw(OUT)}),
        "bias' is not a known array",
    ),
    "NaN": (
        arrays({"fc.lora_A.weight": A * np.nan}),
        "of float32, holds other values than finite",
    ),
    "whole numbers": (arrays({"fc.lora_A.weight": A.astype(int)}), "of int64, holds other values than finite"),
    "not a target": (lambda folder: written(folder, target_modules=["b"]), "target_modules=['b'] does not choose 'fc'"),
    "an embedding": (
        lambda folder: written(folder, {"fc.lora_embedding_A": A, "fc.lora_embedding_B": B}),
        "expected .lora_A.weight, .lora_B.weight. If it is an embedding, give TorchNames(embeddings=...)",
    ),
    "a vector": (
        lambda folder: written(folder, {"norm.lora_A.weight": A, "norm.lora_B.weight": B}, target_modules=["norm"]),
        "LoRA on 'norm/scale', of shape (3,), which is 'norm.weight' in PyTorch",
    ),
    "a module of another shape": (
        arrays({"norm.weight": draw(5)}),
        "has shape (5,); expected (3,), as 'norm/scale' has",
    ),
    "two changes of one leaf": (
        arrays({"fc.base_layer.weight": draw(OUT, IN)}),
        "differs from the base, and 'fc/kernel'",
    ),
    "nothing": (
        lambda folder: written(folder, {"norm.weight": PARAMS["norm"]["scale"]}),
        "it changes nothing of the base",
    ),
    "outputs for inputs": (
        lambda folder: written(folder, {"fc.ia3_l": draw(OUT, 1)}, peft_type="IA3", feedforward_modules=["fc"]),
        "'fc.ia3_l' has shape (4, 1); expected (1, 3): 3 inputs of a feed-forward module",
    ),
    "inputs for outputs": (
        lambda folder: written(folder, {"fc.ia3_l": draw(1, IN)}, peft_type="IA3"),
        "'fc.ia3_l' has shape (1, 3); expected (4, 1): 4 outputs",
    ),
    "LoRA in IA3": (
        lambda folder: written(folder, peft_type="IA3"),
        "has .lora_A.weight, .lora_B.weight; expected .ia3_l",
    ),
}


@pytest.mark.parametrize(("write", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(tmp_path, write, message):
    write(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        load_peft(tmp_path, BASE)
    assert str(refused.value).startswith(str(tmp_path / "adapter_"))


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (
            LoRA("fc/kernel", rank=1),
            "'fc/kernel' is changed by LoRA(path='fc/kernel', rank=2, alpha=3, seed=0), which the",
        ),
        (IA3("fc/kernel"), "which the library's IA3(path='fc/kernel', axis=-1) cannot express; expected one like it"),
        (Shift("norm/scale"), "it changes 'fc/kernel', by LoRA(path='fc/kernel', rank=2, alpha=3, seed=0), which the"),
    ],
)
def test_what_the_adapter_of_a_library_cannot_say(tmp_path, adapter, message):
    library = library_of(BASE, adapter + Shift("fc/bias"), "", {})
    with pytest.raises(ValueError, match=re.escape(message)):
        load_peft(written(tmp_path), library)


def test_files_that_are_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"adapter_config.json does not exist; expected a file made by PEFT or"):
        load_peft(tmp_path / "none", BASE)
    folder = written(tmp_path)
    path = folder / "adapter_model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-4])
    with pytest.raises(ValueError, match="not a safetensors file, or cut short"):
        load_peft(folder, BASE)
    path.rename(folder / "adapter_model.bin")
    with pytest.raises(FileNotFoundError, match=r"save the adapter by PEFT again, as safetensors, not as .bin"):
        load_peft(folder, BASE)
    (folder / "adapter_model.bin").unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=r"adapter_model.safetensors is a folder; expected a file made by PEFT"):
        load_peft(folder, BASE)
    path.rmdir()
    with pytest.raises(
        FileNotFoundError, match=r"adapter_model.safetensors does not exist; expected a file made by PEFT"
    ):
        load_peft(folder, BASE)


def test_an_adapter_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    read, folder = loading.read_any, written(tmp_path, lora_alpha=8)

    def slow_read(path):
        if not (tmp_path / "replaced").exists():
            (tmp_path / "replaced").touch()
            written(tmp_path, {key: 2 * tensor for key, tensor in FACTORS.items()}, lora_alpha=2)
        return read(path)

    before = changed(load_peft(folder, BASE))["fc"]["kernel"]
    monkeypatch.setattr(loading, "read_any", slow_read)
    now = changed(load_peft(folder, BASE))["fc"]["kernel"]
    # Both factors are twice as large now, and the scale a quarter.
    np.testing.assert_allclose(now, before, rtol=1e-5)
    np.testing.assert_allclose(now, PARAMS["fc"]["kernel"] + 4 * (B @ A).T, rtol=1e-5)


def test_names_that_do_not_fit_the_base_are_not_blamed_on_the_file(tmp_path):
    with pytest.raises(ValueError, match=r"^names has nothing for the leaf 'fc/bias'"):
        load_peft(written(tmp_path), BASE, TorchNames({"fc/kernel": "fc.weight"}))


def test_no_names_are_taken_for_paths(tmp_path):
    """A module of any name is looked up among the base's, and nowhere else."""
    written(tmp_path, {"../../x.lora_A.weight": A, "../../x.lora_B.weight": B})
    with pytest.raises(ValueError, match=r"the module '../../x' is not one of the base's"):
        load_peft(tmp_path, BASE)
